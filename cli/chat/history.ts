import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

const MOST_LINES = 1_000

export function historyFile(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'apar/chat-history')
}

/** The lines of earlier conversations, the newest first. */
export function readHistory(file = historyFile()): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean).slice(0, MOST_LINES)
  } catch {
    return []
  }
}

/** What cannot be kept is lost without a word: a conversation does not depend on it. */
export function writeHistory(lines: readonly string[], file = historyFile()): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(file, `${lines.slice(0, MOST_LINES).join('\n')}\n`, { mode: 0o600 })
  } catch {}
}
