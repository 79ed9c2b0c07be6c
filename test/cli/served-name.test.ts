import { expect, test } from 'vitest'
import { servedName } from '../../cli/models/served-name.ts'

test.each([
  [undefined, {}, undefined],
  [undefined, { adapter: 'lists' }, undefined],
  ['me/base', {}, 'me/base'],
  ['me/base', { adapter: '/adapters/lists/' }, 'me/base+lists'],
  ['demo', { adapter: 'lists', name: 'mine' }, 'mine'],
  [undefined, { name: 'mine' }, 'mine'],
])('a model named %s with %o is served as %s', (name, flags, served) => {
  expect(servedName({ name }, flags)).toBe(served)
})
