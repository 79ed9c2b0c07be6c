import { describe, expect, test } from 'vitest'
import { LOG_LEVELS, Logger, logLevel } from '../../shared/log.ts'
import { recorded } from '../support/logs.ts'

describe('a log', () => {
  test('writes one JSON object per line, with the fields of all its parents', () => {
    const { log, lines, entries } = recorded()
    log
      .with({ request_id: 'r', branch: 1 })
      .with({ branch: 2 })
      .info('two\nlines', { ok: true, left_out: undefined })
    expect(lines[0]).not.toContain('\n')
    expect(entries()).toEqual([
      {
        time: expect.any(String),
        level: 'info',
        message: 'two\nlines',
        request_id: 'r',
        branch: 2,
        ok: true,
      },
    ])
  })

  test('writes a thrown error with its causes', () => {
    const { log, entries } = recorded()
    log.error('broken', {}, new Error('outer', { cause: new TypeError('inner') }))
    log.warn('odd', {}, 'a word')
    expect(entries()[0]?.error).toMatch(/Error: outer\n.*caused by TypeError: inner\n/s)
    expect(entries()[1]?.error).toBe('a word')
  })

  test.each(LOG_LEVELS)('at level %s omits lower levels', (level) => {
    const { log, entries } = recorded(level)
    log.debug('')
    log.info('')
    log.warn('')
    log.error('')
    expect(entries().map((entry) => entry.level)).toEqual(LOG_LEVELS.slice(LOG_LEVELS.indexOf(level), 4))
  })

  test('writes a readable line in text format', () => {
    const lines: string[] = []
    const log = new Logger({ level: 'info', format: 'text', write: (line) => lines.push(line) })
    log.info('registered', { edge: 'http://e', reason: undefined })
    expect(lines).toEqual([expect.stringMatching(/^\d\d:\d\d:\d\d info registered edge=http:\/\/e$/)])
  })
})

test('an unknown level becomes the default', () => {
  expect([logLevel('error', 'warn'), logLevel('loud', 'warn'), logLevel(undefined, 'info')]).toEqual([
    'error',
    'warn',
    'info',
  ])
})
