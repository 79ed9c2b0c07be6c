import { expect, it } from 'vitest'
import { AparError, toAparError } from '../../shared/errors.ts'

it.each([
  'database or disk is full: SQLITE_FULL',
  'disk I/O error: SQLITE_IOERR (extended: SQLITE_IOERR_SHMSIZE)',
  'unable to open database file: SQLITE_CANTOPEN',
  'internal error; reference = c0a71n53gj2496fa62sb5u1q',
])('what may be a storage that fails is not called a bug, and may work again soon: %s', (message) => {
  const cause = new Error(message)
  const error = toAparError(cause)
  expect(error).toMatchObject({ code: 'storage_unavailable', status: 503, cause })
  expect(error.message).not.toContain(message)
  // Other faults of the runtime read the same.
  expect(error.message).toMatch(/may be unable to store/)
})

it.each([new Error('no such table: x: SQLITE_ERROR'), new Error('an internal error'), 'SQLITE_FULL', null])(
  'anything else that was thrown is a bug: %s',
  (thrown) => {
    expect(toAparError(thrown)).toMatchObject({
      code: 'internal_error',
      status: 500,
      message: 'internal error',
    })
  },
)

it('an error of ours stays what it is', () => {
  const error = new AparError('overloaded', 'SQLITE_FULL')
  expect(toAparError(error)).toBe(error)
})
