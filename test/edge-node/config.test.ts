import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { unstable_readConfig } from 'wrangler'
import { workerOptions } from '../../edge/build.mjs'

/** The part of wrangler's configuration that workerd has to share; wrangler's own type does not resolve here. */
interface WranglerConfig {
  name: string
  compatibility_date: string
  compatibility_flags: string[]
  keep_vars?: boolean
  durable_objects: { bindings: { name: string; class_name: string }[] }
  ratelimits: { name: string; simple: { limit: number; period: number } }[]
  migrations: { new_sqlite_classes?: string[] }[]
}

const path = new URL('../../wrangler.toml', import.meta.url).pathname

it.each([undefined, 'staging', 'production'])('wrangler (%s) and workerd run the same worker', (env) => {
  const config: WranglerConfig = unstable_readConfig({ config: path, ...(env && { env }) })
  expect(config.name).toBe(env ? `${workerOptions.name}-${env}` : workerOptions.name)
  // Without it a deployment would delete the issuer and audience that were set in the dashboard.
  expect(config.keep_vars).toBe(true)
  expect(workerOptions.compatibilityDate).toBe(config.compatibility_date)
  expect(workerOptions.compatibilityFlags).toEqual(config.compatibility_flags)
  const sqliteClasses = config.migrations.flatMap(({ new_sqlite_classes }) => new_sqlite_classes ?? [])
  const objects = config.durable_objects.bindings.map(({ name, class_name }) => [
    name,
    { className: class_name },
  ])
  // workerd gives all of them SQL.
  for (const { class_name } of config.durable_objects.bindings) expect(sqliteClasses).toContain(class_name)
  expect(workerOptions.durableObjects).toEqual(Object.fromEntries(objects))
  const limits = config.ratelimits.map(({ name, simple }) => [name, { simple }])
  expect(workerOptions.ratelimits).toEqual(Object.fromEntries(limits))
})

it('production passes a dry run of wrangler deploy', { timeout: 120_000 }, async () => {
  const args = ['wrangler', 'deploy', '--dry-run', '--env', 'production', '--config', path]
  const quiet = { CLOUDFLARE_CF_FETCH_ENABLED: 'false', WRANGLER_SEND_METRICS: 'false' }
  const { stdout } = await promisify(execFile)('npx', args, { env: { ...process.env, ...quiet } })
  for (const binding of ['STREAM_RECORDS', 'FLEET', 'KEY_LIMITS', 'KEY_STORE', 'IP_RATE_LIMIT', 'METRICS']) {
    expect(stdout).toContain(`env.${binding}`)
  }
  expect(stdout).toContain('--dry-run: exiting now')
  // A Worker starts the sooner the smaller it is; Cloudflare takes up to 3 MiB on its free plan.
  const [, kib] = /Total Upload: .* \/ gzip: ([\d.]+) KiB/.exec(stdout) ?? []
  expect(Number(kib)).toBeGreaterThan(0)
  expect(Number(kib)).toBeLessThanOrEqual(1024)
})
