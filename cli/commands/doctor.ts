import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { Finding } from '../doctor/finding.ts'
import { memory, nodeVersion, processor } from '../doctor/machine.ts'
import { cuda, edgeRuntime, engine } from '../doctor/programs.ts'
import { python, training } from '../doctor/python.ts'
import { DEFAULT_PORT, defaultModel, disk, port } from '../doctor/serving.ts'
import { type JsonFlag, withJson } from '../json.ts'
import { port as portNumber } from '../options.ts'

interface DoctorFlags extends JsonFlag {
  readonly port: number
}

/** In their order. */
const CHECKS: readonly ((flags: DoctorFlags) => Finding | Promise<Finding>)[] = [
  () => nodeVersion(),
  () => processor(),
  () => memory(),
  () => engine(),
  () => cuda(),
  () => edgeRuntime(),
  ({ port: number }) => port(number),
  () => defaultModel(),
  () => disk(),
  () => python(),
  training,
]

export function registerDoctor(program: Command): void {
  withJson(program.command('doctor'))
    .description('says what this machine can do, and what to do where something is missing; changes nothing')
    .option('--port <port>', 'the port that apar serve shall take', portNumber, DEFAULT_PORT)
    .action(doctor)
}

async function doctor(flags: DoctorFlags): Promise<void> {
  const { json } = flags
  const findings: Finding[] = []
  for (const check of CHECKS) {
    const found = await check(flags)
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
