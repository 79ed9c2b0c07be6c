import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { requires } from '../../support/requires.ts'

const hasScript = requires('script', () => execFileSync('script', ['--version']).length > 0)
const ESCAPE = '\u001b'

/** What `apar chat` writes on a terminal of this kind, while somebody corrects a line and presses the arrow up. */
async function typed(TERM: string): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'apar-terminal-'))
  const command = `${process.execPath} dist/apar.js chat --url http://127.0.0.1:9 --key k --model m`
  const env = { ...process.env, TERM, XDG_STATE_HOME: home, APAR_CONFIG: 'none' }
  const shell = spawn('script', ['--quiet', '--command', command, '/dev/null'], { env })
  let written = ''
  let typed = false
  shell.stdout.setEncoding('utf8').on('data', (text: string) => {
    written += text
    // Before the prompt the system edits lines on every terminal.
    if (typed || !written.includes('> ')) return
    typed = true
    shell.stdin.end('/helb\u007fp\n/clear\n/model other\n\u001b[A\u0015/exit\n')
  })
  await once(shell, 'close')
  await rm(home, { recursive: true })
  return written
}

describe.skipIf(!hasScript)('apar chat', () => {
  test('a terminal that cannot move its cursor gets no escapes, and lines can be corrected on it', async () => {
    const written = await typed('dumb')
    expect(written).toContain('lists these commands')
    expect(written).not.toContain(ESCAPE)
    expect(written).toContain('a new conversation')
    expect(written).toContain('nothing answers at http://127.0.0.1:9')
  })

  test('another one gets them, and lines can be corrected on it, too', async () => {
    const written = await typed('xterm')
    expect(written).toContain('lists these commands')
    expect(written).toContain(ESCAPE)
  })
})
