import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'
import { Link } from './link.ts'

const PROMPT = 'How do I use tar?'
const PATIENT = { timeout: 30_000 }

describe.skipIf(!hasChromium)('the page follows what grows', () => {
  let stack: Stack
  let browser: Browser
  let chat: ChatPage

  beforeAll(async () => {
    stack = await startStack({ speculation: 'off' })
    browser = await launchChromium()
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  afterEach(() => chat.close())

  const open = async (url: string) => {
    chat = await ChatPage.open(browser, url, stack.key, { viewport: { width: 360, height: 480 } })
  }

  /** How many pixels lie below the window. */
  const below = () =>
    chat.page.evaluate<number>(`(({ scrollHeight, scrollTop, clientHeight }) =>
      Math.round(scrollHeight - scrollTop - clientHeight))(document.querySelector('.messages'))`)
  const toTop = () => chat.page.evaluate("document.querySelector('.messages').scrollTop = 0")

  it('shows the end of each answer, in this conversation and in a new one', async () => {
    await open(stack.url)
    for (const name of ['first', 'second']) {
      await chat.ask(PROMPT)
      await expect.poll(below, { ...PATIENT, message: `${name} answer` }).toBeLessThan(2)
    }
    await chat.button('Conversations').click()
    await chat.button('New chat').click()
    await expect.poll(() => chat.answers.count(), PATIENT).toBe(0)
    await chat.ask(PROMPT)
    await expect.poll(below, PATIENT).toBeLessThan(2)
  })

  it('shows the answer of a question that is asked from further up', async () => {
    await open(stack.url)
    await chat.ask(PROMPT)
    await toTop()
    await expect.poll(below, PATIENT).toBeGreaterThan(100)
    await chat.ask('How do I use ls?')
    await expect.poll(below, PATIENT).toBeLessThan(2)
  })

  it('stays where a reader has scrolled up to while the answer grows', async () => {
    const link = await Link.to(stack.url)
    await open(link.url)
    await chat.send(PROMPT)
    await expect
      .poll(() => chat.page.evaluate<number>("document.querySelector('.messages').scrollTop"), PATIENT)
      .toBeGreaterThan(50)
    await toTop()
    link.release()
    await chat.state('complete')
    expect(await below()).toBeGreaterThan(100)
    link.close()
  })
})
