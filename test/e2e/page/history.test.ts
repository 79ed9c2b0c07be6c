import { readFile } from 'node:fs/promises'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'

const PROMPT = 'How do I use tar?'

describe.skipIf(!hasChromium)('the history of the page', () => {
  let stack: Stack
  let browser: Browser
  let chat: ChatPage
  let answer: string

  beforeAll(async () => {
    stack = await startStack()
    browser = await launchChromium()
    chat = await ChatPage.open(browser, stack.url, stack.key)
    answer = await chat.ask(PROMPT)
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  const links = () => chat.page.locator('#sidebar li a')
  const manage = (title: string) => chat.button(`Rename, export or delete: ${title}`).click()

  async function exported(button: string): Promise<string> {
    const [download] = await Promise.all([chat.page.waitForEvent('download'), chat.button(button).click()])
    return await readFile(await download.path(), 'utf8')
  }

  it('lists conversations, opens them, and goes back', async () => {
    await chat.button('New chat').click()
    await chat.ask('How do I use ls?')
    expect(await links().allTextContents()).toEqual(['How do I use ls?', PROMPT])
    await links().nth(1).click()
    await chat.page.locator('article.prompt', { hasText: 'tar' }).waitFor()
    expect(await chat.text()).toBe(answer)
    await chat.page.goBack()
    await chat.page.locator('article.prompt', { hasText: 'ls' }).waitFor()
  })

  it('renames a conversation', async () => {
    await manage(PROMPT)
    await chat.page.getByLabel('Title').fill('Archives')
    await chat.button('Rename').click()
    await chat.page.reload()
    await links().nth(1).waitFor()
    expect(await links().allTextContents()).toEqual(['How do I use ls?', 'Archives'])
  })

  it('exports and imports: the time line of an answer comes with it', async () => {
    await manage('Archives')
    const markdown = await exported('Export as Markdown')
    const json = await exported('Export as JSON')
    await chat.page.keyboard.press('Escape')
    expect(markdown).toMatch(/^# Archives\n\n## You\n\nHow do I use tar\?\n\n## demo\n\n/)
    const bars = () =>
      chat.page.evaluate<string[]>("[...document.querySelectorAll('.branches .row')].map((row) => row.title)")
    await links().nth(1).click()
    await chat.page.locator('article.prompt', { hasText: 'tar' }).waitFor()
    const before = await bars()
    expect(before.length).toBeGreaterThan(2)
    await chat.page
      .locator('#open-file')
      .setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer: Buffer.from(json) })
    await links().nth(2).waitFor()
    await chat.page.locator('#sidebar li[data-current="true"]', { hasText: 'Archives' }).waitFor()
    expect(await chat.text()).toBe(answer)
    expect(await bars()).toEqual(before)
  })

  it('says why a file cannot be imported', async () => {
    const buffer = Buffer.from('{"format":"apar-conversation","version":1,"conversation":{"id":1}}')
    await chat.page
      .locator('#open-file')
      .setInputFiles({ name: 'b.json', mimeType: 'application/json', buffer })
    await chat.page
      .getByRole('alert')
      .filter({ hasText: 'conversation.id is not what it should be' })
      .waitFor()
    await chat.button('Close').click()
    expect(await links().count()).toBe(3)
  })

  it('deletes a conversation at the second press', async () => {
    await manage('How do I use ls?')
    await chat.button('Delete').click()
    await chat.button('Delete for ever').click()
    await expect.poll(() => links().count(), { timeout: 30_000 }).toBe(2)
    await chat.page.reload()
    await links().nth(1).waitFor()
    expect(await links().allTextContents()).toEqual(['Archives', 'Archives'])
    expect(chat.complaints).toEqual([])
  })
})
