import { StartupError } from '../gpu-node/startup-error.ts'
import { AparError } from '../shared/errors.ts'

/** One line for the user, with the error's code. Only an unexpected error is shown with its stack. */
export function explain(error: unknown): string {
  if (error instanceof StartupError || error instanceof UserError) return `${error.message} (${error.code})`
  if (error instanceof AparError) {
    const retry = error.retryAfterSeconds ? `; try again in ${error.retryAfterSeconds} s` : ''
    return `${error.message}${retry} (${error.code})`
  }
  if (isSystemError(error)) return error.message.replace(/^E[A-Z]+: (.*)$/, `$1 (${error.code})`)
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

/** An error of a system call, for example `permission denied, open '/x' (EACCES)`. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error
}

export type UserErrorCode =
  | 'invalid_option'
  | 'missing_option'
  | 'invalid_config'
  | 'port_taken'
  | 'state_taken'
  | 'edge_missing'
  | 'edge_failed'
  | 'edge_unreachable'
  | 'no_gpu_node'
  | 'gpu_node_ended'
  | 'engine_died'
  | 'unknown_model'
  | 'model_not_pulled'
  | 'model_in_use'
  | 'choose_file'
  | 'hub_gated'
  | 'hub_not_found'
  | 'hub_moved'
  | 'hub_refused'
  | 'hub_busy'
  | 'hub_unreachable'
  | 'hub_offline'
  | 'wrong_checksum'
  | 'disk_full'
  | 'python_missing'
  | 'python_packages'
  | 'training_failed'
  | 'package_failed'
  | 'package_missing'
  | 'not_removed'
  | 'cancelled'
  | 'build_in_use'
  | 'run_in_use'
  | 'out_in_use'
  | 'out_incomplete'
  | 'foreign_folder'
  | 'other_vocabulary'
  | 'data_too_small'
  | 'no_trace'
  | 'not_measured'

/** An error that the user can fix; shown as one line. */
export class UserError extends Error {
  override readonly name = 'UserError'
  readonly code: UserErrorCode

  constructor(code: UserErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** Ends the program with a failure whose reason a child process has already printed. */
export class AlreadyExplained extends Error {
  override readonly name = 'AlreadyExplained'
}
