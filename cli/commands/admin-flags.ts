import type { Command } from 'commander'
import { UserError } from '../explain.ts'
import { url } from '../options.ts'

/** Flags of the commands for an edge's operator. */
export interface AdminFlags {
  url: string
  adminKey?: string
}

export function withAdmin(command: Command): Command {
  return command
    .option('--url <url>', 'address of the edge', url('http:', 'https:'), 'http://127.0.0.1:8787')
    .option('--admin-key <key>', "the edge's ADMIN_KEY (default: APAR_ADMIN_KEY)")
}

/** @throws UserError `missing_option`. */
export function adminKeyOf(flags: AdminFlags): string {
  const adminKey = flags.adminKey ?? process.env.APAR_ADMIN_KEY
  if (adminKey) return adminKey
  throw new UserError('missing_option', 'the admin key is needed: --admin-key, or APAR_ADMIN_KEY')
}
