// Conversations as a file.

import { titleOf, toRow } from "./conversation.js";
import { download, toast } from "./dom.js";
import { t } from "./text.js";

/** Save conversations as rows that `heedful train` reads. */
export function exportRows(conversations) {
  const rows = conversations.map(toRow).filter(Boolean);
  if (!rows.length) return toast(t("nothingToExport"));
  const name = rows.length === 1 ? titleOf(conversations.find(toRow)).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) : "conversations";
  download(`heedful-${name.replace(/^-|-$/g, "")}.json`, `${JSON.stringify(rows, null, 1)}\n`, "application/json");
  return toast(t("exported"));
}
