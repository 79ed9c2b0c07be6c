import { mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeTrace } from '../../../cli/trace/trace-file.ts'
import { traceOf } from '../../cli/trace/sample-trace.ts'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'

const PROMPT = 'How do I use tar?'

describe.skipIf(!hasChromium)('traces on the chat page', () => {
  let stack: Stack
  let browser: Browser
  let folder: string
  /** As it was downloaded, and what the page showed of it then. */
  let file: string
  let shown: { text: string; rows: string[] }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'apar-page-trace-'))
    stack = await startStack()
    browser = await launchChromium()
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
    rmSync(folder, { recursive: true })
  })

  const rows = ({ page }: ChatPage) =>
    page.evaluate<string[]>("[...document.querySelectorAll('.branches .row')].map((row) => row.title)")
  const open = ({ page }: ChatPage, path: string) => page.locator('#open-file').setInputFiles(path)

  it('are downloaded below an answer, with the steps of the engine where the settings say so', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    await chat.button('Settings').click()
    await chat.page.getByLabel('Record what each step').check()
    await chat.button('Done').click()
    const text = await chat.ask(PROMPT)
    shown = { text, rows: await rows(chat) }
    expect(shown.rows.length).toBeGreaterThan(2)
    const [download] = await Promise.all([
      chat.page.waitForEvent('download'),
      chat.button('Download the trace').click(),
    ])
    expect(download.suggestedFilename()).toBe('How-do-I-use-tar.trace.json')
    file = join(folder, 'tar.json')
    await download.saveAs(file)
    const { messages } = JSON.parse(await readFile(file, 'utf8'))
    const types = messages[1].recorded.events.map(([, { type }]: [number, { type: string }]) => type)
    expect(types).toContain('trace')
    await chat.close()
  })

  it('are opened without a server and without a key, and show answer, tree and time line again', async () => {
    const chat = await ChatPage.open(browser, stack.url)
    const dialog = chat.page.locator('#key-dialog')
    await dialog.waitFor()
    await chat.page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'hidden' })
    await chat.page.context().setOffline(true)
    await open(chat, file)
    await chat.state('complete')
    expect(await chat.text()).toBe(shown.text)
    expect(await rows(chat)).toEqual(shown.rows)
    await chat.page.locator('article.prompt', { hasText: PROMPT }).waitFor()
    // The bars and the text are tied together as those of an answer that was just given.
    await chat.page.locator('.branches .row').nth(1).focus()
    await chat.page.locator('.branches li[data-pointed="true"]').waitFor()
    expect(chat.complaints).toEqual([])
    await chat.close()
  })

  it('are opened on a phone, without findings of axe', async () => {
    const phone = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true }
    const chat = await ChatPage.open(browser, stack.url, stack.key, phone)
    await chat.button('Conversations').click()
    expect(await chat.findings()).toEqual([])
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    await open(chat, file)
    await chat.page.locator('#sidebar').waitFor({ state: 'hidden' })
    await chat.state('complete')
    expect(await chat.findings()).toEqual([])
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    await chat.close()
  })

  it('of apar trace are opened with the keyboard', async () => {
    const path = join(folder, '81.parallel.jsonl.gz')
    const { head, turns } = traceOf('81', 'parallel')
    writeTrace(path, [
      head,
      ...turns.flatMap(({ begin, steps, end }) => [
        begin,
        ...steps.map((step) => ({ type: 'step' as const, ...step })),
        end,
      ]),
    ])
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    // The browser is told to pass choosers on long before the key is pressed.
    const chosen = chat.page.waitForEvent('filechooser')
    const focused = () => chat.page.evaluate<string>('document.activeElement.id')
    for (let steps = 0; steps < 40 && (await focused()) !== 'open-file'; steps++)
      await chat.page.keyboard.press('Tab')
    expect(await focused()).toBe('open-file')
    await chat.page.locator('#open-file').press('Enter')
    await (await chosen).setFiles(path)
    await chat.state('complete')
    expect(await chat.text()).toBe('a: one two\nend')
    expect(await rows(chat)).toHaveLength(2)
    await chat.close()
  })

  it('are refused in words when they are damaged, and nothing else changes', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    const buffer = Buffer.from((await readFile(file, 'utf8')).slice(0, -200))
    await chat.page
      .locator('#open-file')
      .setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer })
    await chat.page.getByRole('alert').filter({ hasText: 'This file is not JSON.' }).waitFor()
    expect(await chat.answers.count()).toBe(0)
    await open(chat, file)
    await chat.state('complete')
    expect(await chat.page.getByRole('alert').count()).toBe(0)
    await chat.close()
  })
})
