import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { AparError } from '../../shared/errors.ts'
import { UserError } from '../explain.ts'
import { SIGNALS } from './cancelled.ts'
import { TRAINER_FOLDER } from './environment/packages.ts'
import { type Reason, TracebackFilter } from './traceback-filter.ts'

export interface TrainerOptions {
  /** Shows tracebacks of Python. */
  readonly debug: boolean
  /** See {@link findAllocator}. */
  readonly allocator?: string | undefined
  /** Hears of the trainer's process. */
  readonly onStart?: (pid: number) => void
}

/** How the trainer's process ended. */
export type TrainerEnd = 'done' | 'stopped'

/** How to start the trainer: the arguments after `python`. More than one process run under torchrun, on this machine. */
export function trainerArguments(command: readonly string[], processes: number): string[] {
  if (processes === 1) return ['-m', 'apar_train', ...command]
  const torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', String(processes)]
  // Else torchrun takes --run for an abbreviation of an option of its own.
  return [...torchrun, '-m', '--', 'apar_train', ...command]
}

/** The line that starts the same in a shell. */
export function shellLine(python: string, args: readonly string[], allocator?: string): string {
  const preload = allocator === undefined ? [] : [`LD_PRELOAD=${quoted(allocator)}`]
  return [...preload, `PYTHONPATH=${quoted(TRAINER_FOLDER)}`, quoted(python), ...args.map(quoted)].join(' ')
}

function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/**
 * Runs the trainer. At the first signal it saves its state and ends, at the second it ends at once.
 * @throws AparError, StartupError with what the trainer refuses; UserError `training_failed` with the last line of a
 * traceback
 */
export async function runTrainer(
  python: string,
  args: readonly string[],
  { debug, allocator, onStart }: TrainerOptions,
): Promise<TrainerEnd> {
  const paths = [TRAINER_FOLDER, process.env.PYTHONPATH].filter(Boolean)
  const child = spawn(python, args, {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: {
      ...process.env,
      PYTHONPATH: paths.join(':'),
      PYTHONUNBUFFERED: '1',
      ...(allocator === undefined ? {} : { LD_PRELOAD: allocator }),
      // Of what libraries will change some day.
      ...(debug ? {} : { PYTHONWARNINGS: 'ignore' }),
    },
    // A process group of its own: Ctrl-C reaches only this process, which asks the trainer to stop.
    detached: true,
  })
  if (child.pid !== undefined) onStart?.(child.pid)
  const filter = new TracebackFilter()
  const reading = (async () => {
    for await (const line of createInterface({ input: child.stderr })) {
      if (filter.shows(line) || debug) console.error(line)
    }
  })()
  const stopping = stopAtSignals(child)
  try {
    const [[code, signal]] = await Promise.all([once(child, 'close'), reading])
    if (code === 0 && !stopping.requested) return 'done'
    if (code === STOPPED) return 'stopped'
    if (stopping.requested && (!filter.reason || OF_A_SIGNAL.test(filter.reason.sentence))) return 'stopped'
    throw filter.reason ? errorOf(filter.reason) : new UserError('training_failed', endOf(code, signal))
  } finally {
    stopping.remove()
  }
}

/** The trainer's exit code after a signal that only it has heard (training/torch/apar_train/__main__.py). */
const STOPPED = 130

/** How Python and torchrun end before the trainer listens, and after it. */
const OF_A_SIGNAL = /^KeyboardInterrupt|SignalException/

function errorOf({ code, sentence }: Reason): Error {
  if (code === undefined) return new UserError('training_failed', sentence)
  if (code === 'invalid_request') return new AparError(code, sentence)
  if (code === 'broken_checkpoint' || code === 'unsupported_checkpoint')
    return new StartupError(code, sentence)
  return new UserError(code, sentence)
}

function endOf(code: number | null, signal: string | null): string {
  if (signal === 'SIGKILL') return 'the trainer was killed, perhaps because the memory was full'
  return `the trainer ended with ${signal ?? `exit code ${code}`}`
}

function stopAtSignals(child: ChildProcess): { readonly requested: boolean; remove(): void } {
  let requested = false
  const stop = () => {
    if (requested) process.kill(-(child.pid ?? 0), 'SIGKILL')
    else {
      console.error('apar: stopping after this step; once more ends at once')
      child.kill('SIGINT')
    }
    requested = true
  }
  for (const signal of SIGNALS) process.on(signal, stop)
  return {
    get requested() {
      return requested
    },
    remove: () => {
      for (const signal of SIGNALS) process.off(signal, stop)
    },
  }
}
