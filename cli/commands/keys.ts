import Table from 'cli-table3'
import { type Command, InvalidArgumentError } from 'commander'
import { ApiKeyRecord, Scope } from '../../shared/api-keys.ts'
import { KeyAdmin, type KeyAnswer, type NewKeySettings } from '../admin.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { newApiKey } from '../keys.ts'
import { decimal, integer } from '../options.ts'
import { type AdminFlags, adminKeyOf, withAdmin } from './admin-flags.ts'

type Flags = AdminFlags & JsonFlag

const MAX_TOKENS = 1_000_000_000_000
const DAY_SECONDS = 24 * 3600

interface CreateFlags extends Flags {
  id?: string
  scopes?: Scope[]
  models?: string[]
  expiresInDays?: number
  requestsPerMinute?: number
  tokensPerMinute?: number
  concurrentStreams?: number
  concurrentSockets?: number
  tokensPerDay?: number
  tokensPerMonth?: number
  storedResponses?: number
  weight?: number
  priority?: number
  ignoreUnknownFields?: boolean
}

export function registerKeys(program: Command): void {
  const keys = program.command('keys').description('API keys of an edge')
  const tokens = integer(1, MAX_TOKENS)
  withFlags(keys.command('create').description('creates a key and prints it once'))
    .option('--id <id>', 'name of the key: letters, digits, hyphens (default: random)', keyId)
    .option('--scopes <names>', `comma-separated list of ${Scope.options.join(', ')} (default: all)`, scopes)
    .option('--models <names>', 'comma-separated list of allowed models (default: all)', (text) =>
      text.split(','),
    )
    .option('--expires-in-days <n>', 'default: never', integer(1, 36_500))
    .option('--requests-per-minute <n>', 'default, as for all limits: none', integer(1, 1_000_000))
    .option('--tokens-per-minute <n>', 'prompt and new tokens', tokens)
    .option('--concurrent-streams <n>', 'answers generated at the same time', integer(1, 100_000))
    .option(
      '--concurrent-sockets <n>',
      'open WebSockets (default: 512, or --concurrent-streams if more)',
      integer(1, 100_000),
    )
    .option('--tokens-per-day <n>', 'UTC', tokens)
    .option('--tokens-per-month <n>', 'UTC', tokens)
    .option('--stored-responses <n>', '0: none are stored (default: 1000)', integer(0, 100_000))
    .option(
      '--weight <x>',
      'share of a gpu node beside other keys, 0.01 to 100 (default: 1)',
      decimal(0.01, 100),
    )
    .option('--priority <n>', 'keys with a larger one are served first, -4 to 4 (default: 0)', integer(-4, 4))
    .option('--ignore-unknown-fields', 'fields that the API does not know are ignored, not refused')
    .action(async (flags: CreateFlags) => showSecret(flags, await adminOf(flags).create(settingsOf(flags))))
  withFlags(keys.command('list').description('lists keys, without their secrets')).action(
    async (flags: Flags) => {
      const listed = await adminOf(flags).list()
      print(flags, listed, () => tableOf(listed))
    },
  )
  withFlags(keys.command('rotate').description('gives a key a new secret and prints it once'))
    .argument('<id>', 'name of the key', keyId)
    .option('--grace-seconds <n>', 'how long the old secret stays valid', integer(0, 30 * DAY_SECONDS), 0)
    .action(async (id: string, flags: Flags & { graceSeconds: number }) =>
      showSecret(flags, await adminOf(flags).rotate(id, flags.graceSeconds)),
    )
  withFlags(keys.command('revoke').description('revokes a key permanently'))
    .argument('<id>', 'name of the key', keyId)
    .action(async (id: string, flags: Flags) => {
      print(flags, await adminOf(flags).revoke(id), () => `${id} is revoked`)
    })
  withJson(keys.command('new'))
    .description(
      'creates a key without calling an edge, and its record for the API_KEYS secret (a JSON list)',
    )
    .requiredOption('--id <id>', 'name of the key: letters, digits, hyphens', keyId)
    .option('--requests-per-minute <n>', 'its request-rate limit', integer(1, 1_000_000), 60)
    .action(({ id, requestsPerMinute, json }: JsonFlag & { id: string; requestsPerMinute: number }) => {
      const { key, record } = newApiKey(id, requestsPerMinute)
      if (json) return console.log(JSON.stringify({ key, record }))
      console.error('key (shown once):')
      console.log(key)
      console.error('record for API_KEYS:')
      console.log(JSON.stringify(record))
    })
}

function adminOf(flags: AdminFlags): KeyAdmin {
  return new KeyAdmin(flags.url, adminKeyOf(flags))
}

function settingsOf(flags: CreateFlags): NewKeySettings {
  const { id, scopes, models, expiresInDays: days } = flags
  const limits = {
    requests_per_minute: flags.requestsPerMinute,
    tokens_per_minute: flags.tokensPerMinute,
    concurrent_streams: flags.concurrentStreams,
    concurrent_sockets: flags.concurrentSockets,
    tokens_per_day: flags.tokensPerDay,
    tokens_per_month: flags.tokensPerMonth,
    stored_responses: flags.storedResponses,
  }
  return {
    ...(id !== undefined && { id }),
    ...(scopes && { scopes }),
    ...(models && { models }),
    limits,
    ...(flags.weight !== undefined && { weight: flags.weight }),
    ...(flags.priority !== undefined && { priority: flags.priority }),
    ...(flags.ignoreUnknownFields && { unknown_fields: 'ignore' as const }),
    ...(days !== undefined && { expires_at: Math.floor(Date.now() / 1000) + days * DAY_SECONDS }),
  }
}

function withFlags(command: Command): Command {
  return withJson(withAdmin(command))
}

function showSecret(flags: JsonFlag, made: KeyAnswer): void {
  if (!flags.json) console.error(`key ${made.id} (shown once):`)
  print(flags, made, () => made.key ?? '')
}

function tableOf(keys: KeyAnswer[]): string {
  const table = new Table({
    head: ['key', 'state', 'scopes', 'models', 'weight', 'priority', 'limits'],
    style: { head: [], border: [] },
  })
  for (const { id, scopes, models, limits, weight, priority, ...state } of keys) {
    const bounds = Object.entries(limits).map(([name, value]) => `${name} ${value}`)
    const allowed = [scopes.join('\n'), models?.join('\n') ?? 'all']
    table.push([id, stateOf(state), ...allowed, weight, priority, bounds.join('\n')])
  }
  return table.toString()
}

function stateOf({ expires_at, revoked_at }: Pick<KeyAnswer, 'expires_at' | 'revoked_at'>): string {
  if (revoked_at !== null) return `revoked ${day(revoked_at)}`
  if (expires_at === null) return 'good'
  return expires_at * 1000 <= Date.now() ? `expired ${day(expires_at)}` : `good until ${day(expires_at)}`
}

function day(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10)
}

function keyId(text: string): string {
  if (!ApiKeyRecord.shape.id.safeParse(text).success)
    throw new InvalidArgumentError('letters, digits and hyphens')
  return text
}

function scopes(text: string): Scope[] {
  return text.split(',').map((name) => {
    const scope = Scope.safeParse(name)
    if (!scope.success) throw new InvalidArgumentError(`scopes are ${Scope.options.join(', ')}`)
    return scope.data
  })
}
