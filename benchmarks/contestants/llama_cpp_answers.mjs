// Reads a task from stdin, decodes each prompt greedily, prints {seconds, answers, peak_mib} as one line of JSON.
import { readFileSync } from "node:fs";

const task = JSON.parse(readFileSync(0, "utf8"));
const { getLlama } = await import(task.package);
const llama = await getLlama({
  build: "never", skipDownload: true, gpu: false, maxThreads: task.threads, progressLogs: false, logLevel: "error",
});
const model = await llama.loadModel({ modelPath: task.model, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 2048, threads: task.threads });
const sequence = context.getSequence();

async function decode(prompt, most) {
  await sequence.clearHistory();
  const answer = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    answer.push(token);
    if (answer.length === most) break;
  }
  return answer;
}

await decode(task.prompts[0], 4); // warm-up
const seconds = [];
const answers = [];
for (const prompt of task.prompts) {
  const started = performance.now();
  answers.push(await decode(prompt, task.tokens));
  seconds.push((performance.now() - started) / 1000);
}
console.log(JSON.stringify({ seconds, answers, peak_mib: process.resourceUsage().maxRSS / 1024 }));
process.exit(0);
