import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { jsonLines } from '../../../cli/bench/serving/output/json-lines.ts'
import { requires } from '../../support/requires.ts'

const FULL = '/dev/full'

test.skipIf(!requires(FULL, () => existsSync(FULL)))('a full disk ends the file and not the run', () => {
  const out = jsonLines(FULL)
  out.run({ title: 'a run of hours' })
  out.run({ title: 'goes on' })
  expect(() => out.close()).toThrow('/dev/full ends early: no space left on device')
})
