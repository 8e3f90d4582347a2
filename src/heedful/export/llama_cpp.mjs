// Reads a task from stdin: tokenises its texts, answers its prompts (token ids) greedily, prints one line of JSON.
import { readFileSync } from "node:fs";

const task = JSON.parse(readFileSync(0, "utf8"));
const { getLlama } = await import(task.package);
const llama = await getLlama({
  build: "never", skipDownload: true, gpu: false, maxThreads: task.threads, progressLogs: false, logLevel: "error",
});
const model = await llama.loadModel({ modelPath: task.model, gpuLayers: 0 });
const ids = task.texts.map((text) => model.tokenize(text, true));
const stops = task.stop_ids.filter((token) => model.isEogToken(token));

const longest = Math.max(0, ...task.prompts.map((prompt) => prompt.length));
const context = await model.createContext({ contextSize: longest + task.tokens + 8, threads: task.threads });
const sequence = context.getSequence();

async function decode(prompt, most) {
  await sequence.clearHistory();
  const answer = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    answer.push(token);
    if (answer.length === most || task.stop_ids.includes(token)) break;
  }
  return answer;
}

if (task.prompts.length) await decode(task.prompts[0], 4); // warm-up
const seconds = [];
const answers = [];
for (const prompt of task.prompts) {
  const started = performance.now();
  answers.push(await decode(prompt, task.tokens));
  seconds.push((performance.now() - started) / 1000);
}
const peak_mib = process.resourceUsage().maxRSS / 1024;
console.log(JSON.stringify({ ids, stops, answers, seconds, peak_mib }));
process.exit(0);
