import { gzipSync } from 'node:zlib'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'
import { Link } from './link.ts'

const PROMPT = 'How do I use tar?'
const PHONE = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true }

describe.skipIf(!hasChromium)('the page, for everybody', () => {
  let stack: Stack
  let browser: Browser

  beforeAll(async () => {
    stack = await startStack({ speculation: 'off' })
    browser = await launchChromium()
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  const modelWidth = ({ page }: ChatPage) =>
    page.evaluate<number>('document.getElementById("model").offsetWidth')

  it.each([
    ['light', { colorScheme: 'light' }],
    ['dark', { colorScheme: 'dark' }],
    ['on a phone', PHONE],
  ])('has no findings of axe, %s: welcome, answer, dialogs, race', async (_, options) => {
    const chat = await ChatPage.open(browser, stack.url, stack.key, options)
    expect(await chat.findings()).toEqual([])
    await chat.button(PROMPT).click()
    await chat.state('complete')
    await chat.page.locator('.timeline').evaluate('(details) => { details.open = true }')
    expect(await chat.findings()).toEqual([])
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    await chat.button('Report the answer').click()
    expect(await chat.findings()).toEqual([])
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    await chat.button('Cancel').click()
    for (const dialog of ['Settings', 'API key']) {
      await chat.button(dialog).click()
      expect(await chat.findings()).toEqual([])
      expect(await chat.overflow()).toBeLessThanOrEqual(0)
      await chat.page.keyboard.press('Escape')
    }
    await chat.button('Race: parallel against serial').click()
    await chat.button('Start').click()
    await chat.page.locator('.verdict').waitFor()
    expect(await chat.findings()).toEqual([])
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    expect(chat.complaints).toEqual([])
    await chat.close()
  })

  it('works with the keyboard alone', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    const { keyboard } = chat.page
    const focused = () =>
      chat.page.evaluate<string>(
        'document.activeElement.ariaLabel || document.activeElement.id || document.activeElement.textContent',
      )
    const tabTo = async (name: string) => {
      for (let steps = 0; steps < 80 && (await focused()) !== name; steps++) await keyboard.press('Tab')
      expect(await focused()).toBe(name)
    }
    await tabTo('Settings')
    await keyboard.press('Enter')
    await chat.page.locator('dialog[open]').waitFor()
    await keyboard.press('Escape')
    await expect.poll(focused, { timeout: 30_000 }).toBe('Settings')
    await tabTo('prompt')
    await keyboard.type(PROMPT)
    await keyboard.press('Enter')
    await chat.state('complete')
    expect(await focused()).toBe('prompt')
    await tabTo('Regenerate')
    await keyboard.press('Enter')
    await chat.lastAnswer.getByText('2 / 2').waitFor()
    await chat.close()
  })

  it('tells screen readers the beginning and the end of an answer, and nothing between', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key)
    await chat.page.evaluate(`
      globalThis.told = []
      new MutationObserver(() => {
        for (const region of document.querySelectorAll('[role=status], [role=alert], [aria-live]'))
          if (region.textContent !== globalThis.told.at(-1)) globalThis.told.push(region.textContent)
      }).observe(document.body, { childList: true, characterData: true, subtree: true })`)
    await chat.ask(PROMPT)
    const told = () => chat.page.evaluate<string[]>('told')
    await expect.poll(told, { timeout: 30_000 }).toContain('The answer is complete.')
    expect((await told()).filter(Boolean)).toEqual(['The answer begins.', 'The answer is complete.'])
    await chat.close()
  })

  it('moves nothing for those who want no motion', async () => {
    const moving = async (reducedMotion: 'reduce' | 'no-preference') => {
      const link = await Link.to(stack.url)
      const chat = await ChatPage.open(browser, link.url, stack.key, { reducedMotion })
      await chat.send(PROMPT)
      await chat.lastAnswer.locator('[data-growing="true"]').nth(1).waitFor()
      const animations = await chat.page.evaluate<number>('document.getAnimations().length')
      await chat.close()
      link.close()
      return animations
    }
    expect(await moving('no-preference')).toBeGreaterThan(0)
    expect(await moving('reduce')).toBe(0)
  })

  it('asks no other server for anything, and is at most 120 KB', async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    const asked: string[] = []
    page.on('request', (request) => asked.push(request.url()))
    await page.goto(`${stack.url}/#key=${stack.key}`)
    await page.locator('#model:enabled').waitFor()
    const own = asked.filter((url) => url.startsWith(stack.url))
    expect(asked.filter((url) => !url.startsWith(stack.url) && !url.startsWith('data:'))).toEqual([])
    const files = own.filter((url) => !url.includes('/v1/'))
    expect(files.length).toBeGreaterThanOrEqual(3)
    let bytes = 0
    for (const url of files) bytes += gzipSync(await (await fetch(url)).arrayBuffer()).length
    expect(bytes).toBeLessThanOrEqual(120_000)
    await context.close()
  })

  it('fits a phone, where the history is a sheet', async () => {
    const chat = await ChatPage.open(browser, stack.url, stack.key, PHONE)
    expect(await chat.page.locator('#sidebar').isVisible()).toBe(false)
    await chat.page.locator('#prompt').fill(PROMPT)
    await chat.page.locator('#send').click()
    await chat.state('complete')
    // The name of the model has as much room as on a wide screen.
    const wide = await ChatPage.open(browser, stack.url, stack.key)
    expect(await modelWidth(chat)).toBeGreaterThanOrEqual(await modelWidth(wide))
    await wide.close()
    await chat.button('Conversations').click()
    await chat.page.locator('#sidebar').getByRole('link', { name: PROMPT }).waitFor()
    await chat.page.locator('#sidebar').getByRole('link', { name: PROMPT }).click()
    await chat.page.locator('#sidebar').waitFor({ state: 'hidden' })
    // What is wrong with a file is said where nothing covers it.
    await chat.button('Conversations').click()
    const buffer = Buffer.from('{}')
    await chat.page
      .locator('#open-file')
      .setInputFiles({ name: 'other.json', mimeType: 'application/json', buffer })
    await chat.page.getByText('neither a conversation nor a trace').waitFor()
    await chat.button('Close').click()
    expect(await chat.overflow()).toBeLessThanOrEqual(0)
    if (process.env.APAR_SCREENSHOTS)
      await chat.page.screenshot({ path: `${process.env.APAR_SCREENSHOTS}/phone.png` })
    await chat.close()
  })
})
