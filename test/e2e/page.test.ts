import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { type Stack, startStack } from './stack.ts'

describe.skipIf(!hasChromium)('the chat page', () => {
  let stack: Stack
  let browser: Browser
  let page: Page
  const complaints: string[] = []

  beforeAll(async () => {
    stack = await startStack()
    browser = await launchChromium()
    page = await browser.newPage()
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (message) => complaints.push(message.text()))
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  const status = (text: string) => page.locator('#status', { hasText: text }).waitFor()

  it('removes the key from the URL', async () => {
    await page.goto(`${stack.url}/#key=${stack.key}`)
    await page.locator('#model:enabled').waitFor()
    expect(page.url()).toBe(`${stack.url}/`)
    expect(await page.locator('#model').inputValue()).toBe('demo')
  })

  it('shows branches and the same text in order', async () => {
    await page.locator('#prompt').fill('How do I use tar?')
    await page.keyboard.press('Control+Enter')
    await status('Complete')
    const branches = await page.locator('.branch').count()
    expect(branches).toBeGreaterThan(1)
    expect(await page.locator('.fork').count()).toBe(branches - 1)
    const own = await page.locator('.branch .text').allInnerTexts()
    const answer = await page.locator('#answer').textContent()
    for (const text of own.slice(1)) expect(answer).toContain(text.trim())
  })

  it('compares with serial decoding', async () => {
    await page.locator('#parallel').uncheck()
    await page.locator('#send').click()
    await page.locator('#runs tbody tr').nth(1).waitFor()
    expect(await page.locator('.branch').count()).toBe(1)
    expect(await page.locator('#runs td:nth-child(2)').allInnerTexts()).toEqual(['serial', 'parallel'])
  })

  it('asks for a key when it has none, and reports a wrong one', async () => {
    expect(complaints).toEqual([])
    const stranger = await browser.newPage()
    await stranger.goto(stack.url)
    await stranger.locator('#key').fill(`${stack.key}x`)
    await stranger.keyboard.press('Enter')
    await stranger.locator('#key-problem', { hasText: 'not valid' }).waitFor()
    await stranger.locator('#key').fill(stack.key)
    await stranger.keyboard.press('Enter')
    await stranger.locator('#model:enabled').waitFor()
    expect(await stranger.locator('dialog[open]').count()).toBe(0)
  })

  it('reports that there is no gpu node', async () => {
    await stack.node.close()
    await page.locator('#send').click()
    await page.locator('#problem', { hasText: 'no_gpu_node' }).waitFor()
  })
})
