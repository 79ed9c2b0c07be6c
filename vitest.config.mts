import { createHash } from 'node:crypto'
import { cloudflareTest } from '@cloudflare/vitest-pool-workers'
import { defineConfig } from 'vitest/config'

/** A key as the edge keeps it, for a secret that only tests know. */
function testKey(id: string, requestsPerMinute: number) {
  const hash = createHash('sha256')
    .update(`salt-${id}${'s'.repeat(32)}`)
    .digest('hex')
  return { id, salt: `salt-${id}`, hash, limits: { requests_per_minute: requestsPerMinute } }
}

/** A hang should fail, a slow machine should not. */
const PATIENT = { testTimeout: 60_000, hookTimeout: 120_000 }

export default defineConfig({
  test: {
    reporters: ['default', './test/support/unfinished-reporter.ts'],
    projects: [
      {
        test: {
          ...PATIENT,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/edge/**', 'test/e2e/**'],
          globalSetup: 'test/support/build-prompt-worker.ts',
          // Many files wait for other programs; the default would leave a core free. Other projects run one file at a
          // time on two cores, so they are another group.
          maxWorkers: '100%',
          sequence: { groupOrder: 1 },
        },
      },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                API_KEYS: JSON.stringify([testKey('test', 100_000), testKey('slow', 3)]),
                ADMIN_KEY: 'admin-key-of-the-tests',
                ALLOWED_ORIGINS: 'https://app.example, https://other.example',
                JWT_SECRET: 'jwt-secret-of-the-tests-32-bytes',
                JWT_AUDIENCE: 'apar',
                JWT_LIMITS: JSON.stringify({ requests_per_minute: 1000 }),
                NODE_SECRET: 'node-secret-of-the-tests',
              },
            },
          }),
        ],
        test: {
          ...PATIENT,
          name: 'edge',
          include: ['test/edge/**/*.test.ts'],
          globalSetup: 'test/edge-node/global-setup.ts',
        },
      },
      {
        test: {
          ...PATIENT,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: 'test/support/build-prompt-worker.ts',
          // Each file starts its own edge and engine; two at a time would fight for the cores.
          fileParallelism: false,
        },
      },
    ],
  },
})
