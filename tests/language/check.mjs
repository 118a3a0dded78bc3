// What GitHub's own editor would complain of in workflow files; without network, and without what only a repository
// knows. Called by dist-scripts/lint, bundled, because the package cannot be imported as it is.

import { readFileSync } from "node:fs";
import { validate } from "@actions/languageservice";
import { TextDocument } from "vscode-languageserver-textdocument";

/** Every complaint of one file, as `FILE:LINE:COLUMN: MESSAGE`. */
async function complaints(file) {
  const text = readFileSync(file, "utf8");
  const found = await validate(TextDocument.create(`file:///${file}`, "yaml", 1, text));
  return found.map(({ range: { start }, message }) => `${file}:${start.line + 1}:${start.character + 1}: ${message}`);
}

Promise.all(process.argv.slice(2).map(complaints)).then((found) => {
  const all = found.flat();
  all.forEach((line) => console.log(line));
  process.exitCode = all.length > 0 ? 1 : 0;
});
