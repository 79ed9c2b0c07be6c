import { existsSync, mkdirSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { basename, dirname, relative } from 'node:path'
import { explain, UserError } from '../explain.ts'
import { type JsonFlag, print } from '../json.ts'
import { lockFolder } from '../lock/folder-lock.ts'
import { resolveOrPull } from '../models/pull.ts'
import { resolveModel } from '../models/resolve.ts'
import { allocatorFor } from './allocator.ts'
import { writeCard } from './card/card.ts'
import { locatePython, trainingPython } from './environment/environment.ts'
import { gpuNames } from './environment/gpu.ts'
import { trainingPackages } from './environment/packages.ts'
import { probePython } from './environment/probe.ts'
import { showEnvironmentProgress } from './environment/progress.ts'
import { recordInvocation } from './invocations.ts'
import { type ModelFiles, NO_MODEL, type Plan, type PlanFlags } from './plan.ts'
import { checkRunFolder, hasState } from './run-folders.ts'
import { runTrainer, shellLine, type TrainerEnd, trainerArguments } from './run-trainer.ts'
import { refuseOtherVocabulary } from './same-vocabulary.ts'

/** Of every command that trains, besides what its plan is made of. */
export interface RunFlags extends PlanFlags, JsonFlag {
  readonly python?: string
  readonly dryRun?: true
  readonly debug?: true
}

export interface Work {
  /** The trainer's arguments. */
  readonly command: (plan: Plan, model: ModelFiles) => string[]
  /** Refuses a plan before anything is done. */
  readonly check?: (plan: Plan, model: ModelFiles) => void
  /** The command line that serves what was trained. */
  readonly serveLine: (plan: Plan) => string
  /** What a user wants to know first of a run that has ended. */
  readonly summary?: (plan: Plan) => string
}

/** Starts the trainer by a plan, notes the call, and writes the model card. @throws UserError `cancelled` */
export async function runPlan(
  plan: Plan,
  flags: RunFlags,
  { command, serveLine, summary, check = () => {} }: Work,
): Promise<void> {
  if (!existsSync(plan.data)) {
    throw new UserError('invalid_option', `--data: ${plan.data} does not exist: apar data build makes it`)
  }
  checkRunFolder(plan.run)
  refuseBegunRun(plan)
  const model = await modelFiles(plan.model, flags.dryRun === true)
  check(plan, model)
  const { path } = model
  refuseOtherVocabulary(plan.data, { name: plan.model, path, adapter: plan.adapter ?? model.adapter })
  const args = trainerArguments(command(plan, model), plan.processes)
  const { path: allocator, hint } = allocatorFor(plan.settings)
  if (flags.dryRun) {
    const { python } = await locatePython(flags)
    print(flags, { python, args, allocator }, () => shellLine(python, args, allocator))
    return
  }
  const python = await trainingPython({ ...flags, progress: showEnvironmentProgress() })
  const line = shellLine(python, args, allocator)
  const lock = await lockPlan(plan)
  let end: TrainerEnd | 'failed' = 'failed'
  try {
    refuseBegunRun(plan)
    console.error(line)
    if (hint) console.error(`apar: ${hint}`)
    const started = new Date().toISOString()
    const ended = recordInvocation(plan.run, {
      ...plan,
      modelPath: path,
      line,
      started,
      ...(await machine(python)),
    })
    const begun = performance.now()
    try {
      end = await runTrainer(python, args, { debug: flags.debug === true, allocator, onStart: lock.add })
    } finally {
      ended(Math.round((performance.now() - begun) / 1000), end)
    }
  } finally {
    lock.release()
  }
  if (end === 'stopped') {
    throw new UserError('cancelled', stoppedSentence(plan))
  }
  // Without what it describes there is no card.
  if (!existsSync(plan.out)) return
  try {
    writeCard(plan.run)
  } catch (error) {
    console.error(`apar: no model card: ${explain(error)}`)
  }
  const trained = `${shown(plan.out)} is trained${howFar(plan)}; serve it with: ${serveLine(plan)}`
  const { out, run } = plan
  print(flags, { out, run, serve: serveLine(plan) }, () =>
    [...(summary ? [summary(plan)] : []), trained].join('\n'),
  )
}

/** @throws UserError `invalid_option` for a folder with another run, which would be lost */
function refuseBegunRun({ run, resume }: Plan): void {
  if (resume || !hasState(run)) return
  throw new UserError('invalid_option', `--run: ${run}: a run was begun here: --resume, or another --run`)
}

/**
 * The folder of the run and the place of the model: two runs would write over each other.
 * @throws UserError `run_in_use`, `out_in_use`
 */
async function lockPlan({ run, out }: Plan): Promise<{ add: (pid: number) => void; release: () => void }> {
  const locks = [await lock(run, 'train-', 'run_in_use', run, '--run')]
  try {
    locks.push(await lock(dirname(out), `train-${basename(out)}-`, 'out_in_use', out, '--out'))
  } catch (error) {
    for (const taken of locks) taken.release()
    throw error
  }
  return {
    add: (pid) => locks.forEach((taken) => void taken.add(pid)),
    release: () => locks.forEach((taken) => void taken.release()),
  }
}

async function lock(
  folder: string,
  prefix: string,
  code: 'run_in_use' | 'out_in_use',
  what: string,
  option: string,
) {
  mkdirSync(folder, { recursive: true })
  const advice = `wait for it, or begin another run with ${option}`
  return await lockFolder(
    folder,
    (by) => new UserError(code, `${what} is in use by ${by}: ${advice}`),
    prefix,
  )
}

/** A run that was told to stop on the way has left a model, too. */
function howFar({ settings }: Plan): string {
  const { 'stop-step': stop, steps } = settings
  if (typeof stop !== 'number' || (typeof steps === 'number' && stop >= steps)) return ''
  return ` to step ${stop}${typeof steps === 'number' ? ` of ${steps}` : ''} (--resume goes on)`
}

function stoppedSentence({ command, out, run }: Plan): string {
  if (!hasState(run)) return 'stopped before there was a state to save'
  const where = run === `${out}-run` ? '' : ` --run ${shown(run)}`
  const advice = `apar train ${command} --resume --out ${shown(out)}${where}`
  return `stopped, and the state is saved; go on with: ${advice}`
}

async function modelFiles(model: string, isDry: boolean): Promise<ModelFiles> {
  if (model === NO_MODEL) return { path: NO_MODEL }
  return isDry ? resolveModel(model) : await resolveOrPull(model)
}

/** As a user in this folder would write it. */
export function shown(path: string): string {
  const short = relative('', path)
  return short.startsWith('..') ? path : short
}

async function machine(python: string) {
  const names = trainingPackages().needed.map(({ name }) => name)
  const { version, packages } = await probePython(python, names)
  const known = Object.entries(packages).flatMap(([name, found]) => (found === null ? [] : [[name, found]]))
  const gpus = gpuNames()
  const cores = cpus()
  return {
    versions: { python: version, ...Object.fromEntries(known) } as Record<string, string>,
    hardware: { cpu: cores[0]?.model.trim() ?? 'CPU', cores: cores.length, memory: totalmem(), gpus },
  }
}
