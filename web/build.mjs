// Packs src/ and ONNX Runtime Web into facecodec/web, which is committed: a package needs no npm to show pictures.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "facecodec", "web");

// What the bundle was made from, in its first line; a test compares it, so that the two cannot drift apart.
const sources = readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(here.length + 1))
  .sort();
const digest = createHash("sha256");
for (const name of [...sources, "package.json"]) digest.update(name + "\0").update(readFileSync(join(here, name)));

await build({
  entryPoints: [join(here, "src", "index.js")],
  outfile: join(out, "facecodec.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "inline",
  banner: { js: `// facecodec in a browser (Apache-2.0), with ONNX Runtime Web (MIT). Sources: ${digest.digest("hex")}` },
});
const wasm = readFileSync(join(here, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"));
writeFileSync(join(out, "ort.wasm.gz"), gzipSync(wasm, { level: 9 }));
for (const name of ["page.html", "page.css"]) copyFileSync(join(here, name), join(out, name));
