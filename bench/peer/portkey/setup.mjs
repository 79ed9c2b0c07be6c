// Installs Portkey's gateway beside this file; `npm run -s bench -- edge` compares the edge with it.
import { spawnSync } from 'node:child_process'

const flags = ['--ignore-scripts', '--no-audit', '--no-fund']
const { status } = spawnSync('npm', ['ci', ...flags], { cwd: import.meta.dirname, stdio: ['ignore', 2, 2] })
process.exit(status ?? 1)
