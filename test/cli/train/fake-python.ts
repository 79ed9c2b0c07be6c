import { chmodSync, writeFileSync } from 'node:fs'

export interface FakePython {
  readonly version?: string
  /** Versions of packages, as the probe asks for them. */
  readonly packages?: Readonly<Record<string, string | null>>
  readonly makesEnvironments?: boolean
  /** Shell commands in place of `python -m venv FOLDER`; `$3` is the folder. */
  readonly venv?: string
  /** In place of `pip install`. */
  readonly pip?: string
  /** In place of the trainer: `python -m apar_train …`. */
  readonly trainer?: string
  /** What `pip install --dry-run --report -` says that torch requires. */
  readonly torchRequires?: readonly string[]
}

/** All that the trainer needs. */
export const GOOD_PACKAGES = {
  ...{ torch: '2.13.0+cu130', transformers: '5.24.0', peft: '0.21.2' },
  ...{ safetensors: '0.8.0', gguf: '0.19.0', numpy: '2.4.6' },
}

/** Writes a shell script that answers as Python does where `apar train` asks it; it notes its calls in `PATH.calls`. */
export function writeFakePython(path: string, fake: FakePython = {}): void {
  const { version = '3.12.1', packages = {}, makesEnvironments = true, torchRequires = [] } = fake
  const probe = JSON.stringify({ version, platform: 'test-machine', makesEnvironments, packages })
  const report = JSON.stringify({ install: [{ metadata: { requires_dist: torchRequires } }] })
  const script = `#!/bin/sh
echo "$1 $2" | head -n 1 | cut -c 1-20 >> '${path}.calls'
case "$*" in
  *makesEnvironments*) echo '${probe}' ;;
  *'import json, peft'*) echo '{"version": "2.13.0", "cuda": false}' ;;
  '-m venv '*) ${fake.venv ?? 'mkdir -p "$3/bin" && cp "$0" "$3/bin/python"'} ;;
  *'-m apar_train '*) ${fake.trainer ?? 'exit 0'} ;;
  *'-m apar_train.product_rate '*) echo '{"device": "cpu", "name": "CPU", "threads": 1, "dtype": "bfloat16", "flops": 1e11}' ;;
  *--dry-run*) echo '${report}' ;;
  *'-m pip '*) ${fake.pip ?? "echo 'Collecting torch'"} ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac
`
  writeFileSync(path, script)
  chmodSync(path, 0o755)
}
