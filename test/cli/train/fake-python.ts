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
  /** What `pip install --dry-run --report -` says that torch requires. */
  readonly torchRequires?: readonly string[]
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
  *--dry-run*) echo '${report}' ;;
  *'-m pip '*) ${fake.pip ?? "echo 'Collecting torch'"} ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac
`
  writeFileSync(path, script)
  chmodSync(path, 0o755)
}
