import { execFile } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { type Stack, startStack } from './stack.ts'

const run = promisify(execFile)
const example = (name: string) => join(packageRoot, 'examples', name)

describe('examples', () => {
  let stack: Stack
  let pages: Server
  let origin: string

  beforeAll(async () => {
    pages = createServer((_, response) => {
      response.setHeader('content-type', 'text/html')
      response.end(readFileSync(example('websocket-page.html')))
    })
    pages.listen(0, '127.0.0.1')
    await once(pages, 'listening')
    origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`
    stack = await startStack({ settings: { ALLOWED_ORIGINS: origin } })
  })
  afterAll(async () => {
    pages?.close()
    await stack?.close()
  })

  test.skipIf(!hasChromium)('websocket-page.html shows every branch, for two turns', async () => {
    const browser = await launchChromium()
    try {
      const page = await browser.newPage()
      await page.goto(`${origin}/#url=${stack.url}&key=${stack.key}`)
      for (const [prompt, branches] of [
        ['How do I use tar?', 4],
        ['How do I use git stash?', 8],
      ] as const) {
        await page.evaluate('delete document.body.dataset.state')
        await page.getByLabel('Prompt').fill(prompt)
        await page.keyboard.press('Enter')
        await page.locator('body[data-state="done"]').waitFor()
        expect(await page.locator('pre').count()).toBeGreaterThan(branches)
      }
    } finally {
      await browser.close()
    }
  })

  test('branches.mjs prints an answer and its branches', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'apar-example-'))
    try {
      await run('npm', ['pack', '--pack-destination', folder], { cwd: join(packageRoot, 'client') })
      const packed = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? ''
      writeFileSync(join(folder, 'package.json'), '{"private": true}')
      await run('npm', ['install', '--offline', '--no-audit', packed], { cwd: folder })
      symlinkSync(join(packageRoot, 'node_modules/ws'), join(folder, 'node_modules/ws'))
      copyFileSync(example('branches.mjs'), join(folder, 'branches.mjs'))
      const env = { ...process.env, APAR_URL: stack.url, APAR_KEY: stack.key }
      const { stdout } = await run(process.execPath, ['branches.mjs', 'How do I use tar?'], {
        cwd: folder,
        env,
      })
      expect(stdout).toMatch(/\nbranch 0: \d+ characters\nbranch 1 of 0: \d+ characters\n/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
