import { once } from 'node:events'
import type { Command } from 'commander'
import { endpoint } from '../../client/endpoint.ts'
import { readErrorBody } from '../../client/explain.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { integer } from '../options.ts'
import { type AdminFlags, adminKeyOf, withAdmin } from './admin-flags.ts'

export function registerFeedback(program: Command): void {
  const feedback = program.command('feedback').description('votes of users on their answers')
  withAdmin(feedback.command('export').description('prints them as JSON, one a line'))
    .option('--after <n>', '`number` of the last line of an earlier export', integer(0, 2 ** 52), 0)
    .action(async (flags: AdminFlags & { after: number }) => {
      const response = await call('GET', flags, `?after=${flags.after}`)
      for await (const chunk of response.body ?? [])
        if (!process.stdout.write(chunk)) await once(process.stdout, 'drain')
    })
  withJson(withAdmin(feedback.command('delete')))
    .description('deletes all votes of one key, or of one subject of tokens')
    .argument('<owner>', '`owner` of an exported line: key:<id> or jwt:<subject>')
    .action(async (owner: string, flags: AdminFlags & JsonFlag) => {
      await call('DELETE', flags, `?owner=${encodeURIComponent(owner)}`)
      print(flags, { owner }, () => `the votes of ${owner} are deleted`)
    })
}

/** @throws the edge's AparError, or UserError `edge_unreachable`. */
async function call(method: string, flags: AdminFlags, query: string): Promise<Response> {
  const address = endpoint(flags.url, '/admin/v1/feedback')
  const headers = { authorization: `Bearer ${adminKeyOf(flags)}` }
  const response = await fetch(`${address}${query}`, { method, headers }).catch(() => {
    throw new UserError('edge_unreachable', `nothing answers at ${address.origin}`)
  })
  if (response.ok) return response
  const other = new UserError('edge_unreachable', `the answer of ${address.origin} is not in apar's format`)
  throw readErrorBody(await response.json().catch(() => undefined)) ?? other
}
