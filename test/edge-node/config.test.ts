import { expect, it } from 'vitest'
import { unstable_readConfig } from 'wrangler'
import { workerOptions } from '../../edge/build.mjs'

/** As much of wrangler's configuration as both sides must agree on; its own type does not resolve here. */
interface WranglerConfig {
  name: string
  compatibility_date: string
  compatibility_flags: string[]
  durable_objects: { bindings: { name: string; class_name: string }[] }
  migrations: { new_sqlite_classes?: string[] }[]
}

it('wrangler and Miniflare run the same worker', () => {
  const path = new URL('../../wrangler.toml', import.meta.url).pathname
  const config: WranglerConfig = unstable_readConfig({ config: path })
  expect(workerOptions.name).toBe(config.name)
  expect(workerOptions.compatibilityDate).toBe(config.compatibility_date)
  expect(workerOptions.compatibilityFlags).toEqual(config.compatibility_flags)
  const sqliteClasses = config.migrations.flatMap(({ new_sqlite_classes }) => new_sqlite_classes ?? [])
  const objects = config.durable_objects.bindings.map(({ name, class_name }) => {
    return [name, { className: class_name, useSQLite: sqliteClasses.includes(class_name) }]
  })
  expect(workerOptions.durableObjects).toEqual(Object.fromEntries(objects))
})
