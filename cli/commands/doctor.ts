import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { Finding } from '../doctor/finding.ts'
import { memory, nodeVersion, processor } from '../doctor/machine.ts'
import { cuda, edgeRuntime, engine } from '../doctor/programs.ts'
import { python, training } from '../doctor/python.ts'
import { defaultModel, disk, port } from '../doctor/serving.ts'
import { type JsonFlag, withJson } from '../json.ts'

const CHECKS: readonly (() => Finding | Promise<Finding>)[] = [
  () => nodeVersion(),
  () => processor(),
  () => memory(),
  () => engine(),
  () => cuda(),
  () => edgeRuntime(),
  () => port(),
  () => defaultModel(),
  () => disk(),
  () => python(),
  training,
]

export function registerDoctor(program: Command): void {
  withJson(program.command('doctor'))
    .description('says what this machine can do, and what to do where something is missing; changes nothing')
    .action(doctor)
}

async function doctor({ json }: JsonFlag): Promise<void> {
  const findings: Finding[] = []
  for (const check of CHECKS) {
    const found = await check()
    findings.push(found)
    if (!json) console.log(lineOf(found))
  }
  if (json) console.log(JSON.stringify(findings))
  // Errors only: a machine that serves but cannot train is in order.
  if (findings.some(({ state }) => state === 'error')) process.exitCode = 1
}

const MARKS = { ok: ['green', '✓'], warning: ['yellow', '!'], error: ['red', '✗'] } as const

export function lineOf({ check, state, found, remedy }: Finding): string {
  const [color, mark] = MARKS[state]
  const line = `${styleText(color, mark)} ${check.padEnd(14)} ${found}`
  return remedy === undefined ? line : `${line}\n  ${' '.repeat(14)} → ${remedy}`
}
