import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { switchTable } from '../../training/data/extract/profile.ts'
import { ruleTable } from '../../training/data/extract/structure.ts'

const page = readFileSync('docs/data-rules.md', 'utf8')

describe('docs/data-rules.md', () => {
  it.each([
    ['switches', switchTable()],
    ['rules', ruleTable()],
  ])('has the %s of the code', (_, table) => {
    expect(page).toContain(`\n${table}\n`)
  })
})
