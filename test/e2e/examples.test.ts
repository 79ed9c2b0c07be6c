import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { DEFAULT_MODEL } from '../../cli/models/default-model.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { installPacked, type Packed } from '../support/packed.ts'
import { type Stack, startStack } from './stack.ts'

const run = promisify(execFile)
const example = (name: string) => join(packageRoot, 'examples', name)
/** What users install beside apar's own packages. */
const PACKAGES = ['@langchain', 'esbuild', 'openai', 'react', 'react-dom', 'ws']

describe('examples', () => {
  let stack: Stack
  let pages: Server
  let origin: string
  let packed: Packed

  beforeAll(async () => {
    pages = createServer((_, response) => {
      response.setHeader('content-type', 'text/html')
      response.end(readFileSync(example('websocket-page.html')))
    })
    pages.listen(0, '127.0.0.1')
    await once(pages, 'listening')
    origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`
    stack = await startStack({ settings: { ALLOWED_ORIGINS: origin } })
    packed = await installPacked(PACKAGES)
    cpSync(join(packageRoot, 'examples'), packed.folder, { recursive: true })
  })
  afterAll(async () => {
    pages?.close()
    packed?.remove()
    await stack?.close()
  })

  const env = () => ({ ...process.env, APAR_URL: stack.url, APAR_API_KEY: stack.key, PORT: '0' })
  async function outputOf(program: string, ...args: string[]): Promise<string> {
    return (await run(program, args, { cwd: packed.folder, env: env() })).stdout
  }

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

  test.skipIf(!hasChromium)('websocket-page.html says when the edge does not allow its origin', async () => {
    const browser = await launchChromium()
    try {
      const page = await browser.newPage()
      await page.goto(`${origin.replace('127.0.0.1', 'localhost')}/#url=${stack.url}&key=${stack.key}`)
      await page.getByLabel('Prompt').fill('How do I use tar?')
      await page.keyboard.press('Enter')
      await page.getByText('Does the edge allow http://localhost').waitFor()
    } finally {
      await browser.close()
    }
  })

  test.skipIf(!hasChromium)('use-chat shows branches that grow side by side, for two turns', async () => {
    const server = spawn(process.execPath, ['use-chat/server.mjs'], {
      cwd: packed.folder,
      env: env(),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const browser = await launchChromium()
    try {
      const [address] = await once(createInterface({ input: server.stdout }), 'line')
      const page = await browser.newPage()
      await page.goto(address)
      await page.evaluate(`
        window.mostGrowing = 0
        new MutationObserver(() => {
          const growing = document.querySelectorAll('.branch:not([data-reason])').length
          window.mostGrowing = Math.max(window.mostGrowing, growing)
        }).observe(document.body, { childList: true, subtree: true, characterData: true })`)
      for (const [turn, prompt] of ['How do I use tar?', 'How do I use git stash?'].entries()) {
        await page.getByLabel('Prompt').fill(prompt)
        await page.keyboard.press('Enter')
        const answer = page.locator('section').nth(2 * turn + 1)
        await answer.locator('.branch[data-reason]').nth(2).waitFor()
        await page.locator('main[data-status="ready"]').waitFor()
        expect(await answer.locator('.branch:not([data-reason])').count()).toBe(0)
        expect(await answer.locator('.text').textContent()).toContain('1. ')
      }
      expect(await page.evaluate('window.mostGrowing')).toBeGreaterThan(1)
      expect(await page.locator('[role="alert"]').count()).toBe(0)
    } finally {
      await browser.close()
      server.kill()
    }
  })

  test('branches.mjs prints an answer and its branches', async () => {
    expect(await outputOf(process.execPath, 'branches.mjs', 'How do I use tar?')).toMatch(
      /\nbranch 0: \d+ characters\nbranch 1 of 0: \d+ characters\n/,
    )
  })

  test('ai-sdk.mjs prints an answer and counts its branches', async () => {
    const text = await outputOf(process.execPath, 'ai-sdk.mjs', 'How do I use tar?')
    expect(text).toMatch(/1\. [\s\S]*\n\n\d+ tokens in ([2-9]|\d\d) branches\n$/)
  })

  test('openai-node.mjs and langchain.mjs print an answer', async () => {
    expect(await outputOf(process.execPath, 'openai-node.mjs')).toMatch(/1\. [\s\S]*\n\n\d+ tokens\n$/)
    expect(await outputOf(process.execPath, 'langchain.mjs')).toMatch(/1\. [\s\S]*\n$/)
  })

  test('curl.sh prints the chunks of all branches, whatever the question has', async () => {
    const text = await outputOf('sh', 'curl.sh', 'How do I use "tar" and \\n?')
    expect(text).toMatch(/"event":"accepted"[\s\S]*"event":"delta","branch":0[\s\S]*\ndata: \[DONE\]\n/)
  })

  /**
   * What LibreChat documents of librechat.yaml, as far as it is used here, field by field: docs/configuration of
   * librechat.ai. The whole schema is in the package librechat-data-provider (0.8.524 accepts the file, and keeps each
   * field of it).
   */
  const LibreChat = z.strictObject({
    version: z.string().regex(/^1\.\d+\.\d+$/),
    cache: z.boolean(),
    endpoints: z.strictObject({
      allowedAddresses: z.array(z.string().regex(/^[\w.-]+:\d+$/)),
      custom: z.array(
        z.strictObject({
          name: z.string(),
          apiKey: z.string().regex(/^\$\{\w+\}$/),
          baseURL: z.url(),
          models: z.strictObject({ default: z.array(z.string()).min(1), fetch: z.boolean() }),
          titleConvo: z.boolean(),
          titleModel: z.string(),
          modelDisplayLabel: z.string(),
          addParams: z.record(z.string(), z.unknown()),
          dropParams: z.array(z.string()),
        }),
      ),
    }),
  })
  /** Variables of Open WebUI's page "Environment Variable Configuration". */
  const OPEN_WEBUI = {
    OPENAI_API_BASE_URL: z.url(),
    OPENAI_API_KEY: z.string().startsWith('apar_'),
    ENABLE_OLLAMA_API: z.stringbool(),
    ENABLE_TITLE_GENERATION: z.stringbool(),
    ENABLE_TAGS_GENERATION: z.stringbool(),
    ENABLE_FOLLOW_UP_GENERATION: z.stringbool(),
  }

  test('the settings of chat pages have fields that those pages document', () => {
    expect(LibreChat.safeParse(parse(readFileSync(example('librechat.yaml'), 'utf8'))).error).toBeUndefined()
    const lines = readFileSync(example('open-webui.env'), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
    // As docker run --env-file reads it: no quotes, and no space around the sign.
    const variables = Object.fromEntries(lines.map((line) => /^(\w+)=(\S+)$/.exec(line)?.slice(1) ?? [line]))
    expect(z.strictObject(OPEN_WEBUI).safeParse(variables).error).toBeUndefined()
    const { models } = parse(readFileSync(example('librechat.yaml'), 'utf8')).endpoints.custom[0]
    expect(models.default).toEqual([DEFAULT_MODEL])
  })

  test('the settings of chat pages lead to an address that answers', async () => {
    const local = (url = '') => url.replace('http://host.docker.internal:8787', stack.url)
    const webUi = Object.fromEntries(
      [...readFileSync(example('open-webui.env'), 'utf8').matchAll(/^(\w+)=(.*)$/gm)].map(
        ([, ...pair]) => pair,
      ),
    )
    const { endpoints } = parse(readFileSync(example('librechat.yaml'), 'utf8'))
    const [libreChat] = endpoints.custom
    expect(endpoints.allowedAddresses).toEqual([new URL(libreChat.baseURL).host])
    for (const [url, more] of [
      [webUi.OPENAI_API_BASE_URL, {}],
      [libreChat.baseURL, libreChat.addParams],
    ]) {
      // As these pages do, which use OpenAI's client.
      const openai = new OpenAI({ baseURL: local(url), apiKey: stack.key })
      const models = await openai.models.list()
      expect(models.data).toMatchObject([{ id: 'demo' }])
      const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
      const answer = await openai.chat.completions.create({
        model: 'demo',
        messages,
        max_tokens: 40,
        ...more,
      })
      expect(answer.choices[0]?.message.content).toContain('1. ')
    }
  })
})
