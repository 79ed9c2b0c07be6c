import { Logger, logLevel } from '../shared/log.ts'

/**
 * A logger to standard error. `LOG_LEVEL` (default info) is the lowest level written; `LOG_FORMAT` is json or
 * text (default: text on a terminal, otherwise json).
 */
export function nodeLog(env: NodeJS.ProcessEnv = process.env, terminal = process.stderr.isTTY): Logger {
  const { LOG_LEVEL, LOG_FORMAT } = env
  const text = LOG_FORMAT === 'text' || (LOG_FORMAT !== 'json' && terminal)
  return new Logger({
    level: logLevel(LOG_LEVEL, 'info'),
    format: text ? 'text' : 'json',
    write: (line) => process.stderr.write(`${line}\n`),
  })
}
