import { type Command, InvalidArgumentError } from 'commander'
import { ApiKeyRecord } from '../../shared/api-keys.ts'
import { newApiKey } from '../keys.ts'
import { integer } from '../options.ts'

export function registerKeys(program: Command): void {
  const keys = program.command('keys').description('API keys')
  keys
    .command('new')
    .description('makes a key, and the record of it for API_KEYS (a JSON list)')
    .requiredOption('--id <id>', 'name of the key: letters, digits, hyphens', keyId)
    .option('--requests-per-minute <n>', 'its request-rate limit', integer(1, 1_000_000), 60)
    .action(({ id, requestsPerMinute }: { id: string; requestsPerMinute: number }) => {
      const { key, record } = newApiKey(id, requestsPerMinute)
      console.error('key (shown once):')
      console.log(key)
      console.error('record for API_KEYS:')
      console.log(JSON.stringify(record))
    })
}

function keyId(text: string): string {
  if (!ApiKeyRecord.shape.id.safeParse(text).success)
    throw new InvalidArgumentError('letters, digits and hyphens')
  return text
}
