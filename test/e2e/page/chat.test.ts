import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'

/** For what the page does by itself: it may be slow, where other tests run. */
const PATIENT = { timeout: 30_000 }
const PROMPT = 'How do I use tar?'

describe.skipIf(!hasChromium)('a chat on the page', () => {
  let stack: Stack
  let browser: Browser
  let chat: ChatPage

  beforeAll(async () => {
    stack = await startStack()
    browser = await launchChromium()
    chat = await ChatPage.open(browser, stack.url, stack.key)
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  it('removes the key from the URL', async () => {
    expect(chat.page.url()).toBe(`${stack.url}/`)
    expect(await chat.page.locator('#model').inputValue()).toBe('demo')
  })

  it('shows an answer as Markdown, and its branches over time', async () => {
    const text = await chat.ask(PROMPT)
    const items = await chat.lastAnswer.locator('.markdown ol > li').count()
    expect(items).toBeGreaterThan(2)
    expect(await chat.lastAnswer.locator('.markdown code').count()).toBeGreaterThan(0)
    expect(await chat.lastAnswer.locator('.branches li').count()).toBe(items + 1)
    expect(text).not.toContain('[Fork]')
    expect(await chat.lastAnswer.locator('.figures').textContent()).toMatch(/^\d+ tokens/)
    expect(await chat.page.locator('#status').textContent()).toBe('The answer is complete.')
  })

  it('marks the text of the branch whose bar has the focus, and the bar of the text under the pointer', async () => {
    const pointedText = () =>
      chat.page.evaluate<string>("[...CSS.highlights.get('pointed')].map(String).join('')")
    await chat.lastAnswer.locator('.branches .row').nth(2).focus()
    await expect.poll(pointedText, PATIENT).not.toBe('')
    const second = (await chat.lastAnswer.locator('.markdown ol > li').nth(1).textContent()) ?? ''
    expect(second.replace(/\s/g, '')).toContain((await pointedText()).replace(/\s/g, ''))
    await chat.page.locator('#prompt').focus()
    await expect.poll(pointedText, PATIENT).toBe('')
    // The last line of the second item belongs to its branch.
    const item = chat.lastAnswer.locator('.markdown ol > li').nth(1)
    await item.scrollIntoViewIfNeeded()
    const box = await item.boundingBox()
    if (!box) throw new Error('the second item is not on the page')
    await chat.page.mouse.move(box.x + 5, box.y + box.height - 8)
    await chat.lastAnswer.locator('.branches li[data-hue="1"][data-pointed="true"]').waitFor()
    await chat.page.mouse.move(0, 0)
    await expect.poll(pointedText, PATIENT).toBe('')
  })

  it('has a second turn, whose request has the first one', async () => {
    await chat.ask('How do I use ls?')
    expect(await chat.answers.count()).toBe(2)
    expect(await chat.page.locator('#sidebar li').count()).toBe(1)
    await expect.poll(async () => (await promptTokens(chat)).length, PATIENT).toBe(2)
    const [first = 0, second = 0] = await promptTokens(chat)
    expect(second).toBeGreaterThan(first + 50)
  })

  it('regenerates an answer serially, and keeps both versions', async () => {
    await chat.page.locator('#parallel').uncheck()
    await chat.lastAnswer.getByRole('button', { name: 'Regenerate' }).click()
    await chat.lastAnswer.getByText('2 / 2').waitFor()
    await chat.state('complete')
    expect(await chat.lastAnswer.locator('.branches').count()).toBe(0)
    await chat.lastAnswer.getByRole('button', { name: 'Previous version' }).click()
    await chat.lastAnswer.getByText('1 / 2').waitFor()
    await chat.page.locator('#parallel').check()
  })

  it('edits a prompt, and keeps what came of the first version', async () => {
    const first = chat.page.locator('article.prompt').first()
    await first.getByRole('button', { name: 'Edit the prompt' }).click()
    await chat.page.getByLabel('Edited prompt').fill('How do I use grep?')
    await chat.page.keyboard.press('Control+Enter')
    await chat.page.locator('article.prompt', { hasText: 'grep' }).waitFor()
    await chat.state('complete')
    expect(await chat.answers.count()).toBe(1)
    await chat.page.locator('article.prompt').getByRole('button', { name: 'Previous version' }).click()
    await chat.page.locator('article.prompt', { hasText: 'tar' }).waitFor()
    expect(await chat.answers.count()).toBe(2)
  })

  it('has the conversation again after a reload', async () => {
    const text = await chat.text()
    await chat.page.reload()
    await chat.lastAnswer.waitFor()
    expect(await chat.answers.count()).toBe(2)
    expect(await chat.text()).toBe(text)
  })

  it('sends the settings', async () => {
    await chat.button('New chat').click()
    await chat.button('Settings').click()
    await chat.page.getByLabel('Most tokens').fill('7')
    await chat.page.getByLabel('System prompt').fill('You know tools.')
    await chat.button('Done').click()
    await chat.ask(PROMPT)
    expect(await chat.lastAnswer.locator('.figures').textContent()).toMatch(/^7 tokens/)
    await chat.button('Settings').click()
    await chat.page.getByLabel('Most tokens').fill('')
    await chat.page.getByLabel('System prompt').fill('')
    await chat.page.keyboard.press('Escape')
  })

  it('has no complaints', () => {
    expect(chat.complaints).toEqual([])
  })
})

/** The length in tokens of the prompts of all complete answers in the browser's database, the oldest first. */
async function promptTokens(chat: ChatPage): Promise<number[]> {
  const all = await chat.page.evaluate<StoredMessage[]>(`new Promise((resolve, reject) => {
    const opening = indexedDB.open('apar')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const reading = opening.result.transaction('messages').objectStore('messages').getAll()
      reading.onsuccess = () => resolve(reading.result)
    }
  })`)
  const sorted = all.toSorted((a, b) => a.created - b.created)
  return sorted.flatMap(({ recorded }) => recorded?.events.at(-1)?.[1].usage?.prompt_tokens ?? [])
}

interface StoredMessage {
  created: number
  recorded?: { events: [number, { usage?: { prompt_tokens: number } }][] }
}
