import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { FeedbackRecord } from '../../../shared/feedback.ts'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'

const PROMPT = 'How do I use tar?'
const ADMIN_KEY = 'admin-key-of-this-test'
const SHOTS = process.env.APAR_SCREENSHOTS

describe.skipIf(!hasChromium)('what the page lets users say of an answer', () => {
  let stack: Stack
  let browser: Browser
  let chat: ChatPage
  let answer: string

  beforeAll(async () => {
    stack = await startStack({ settings: { ADMIN_KEY } })
    browser = await launchChromium()
  })
  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })
  beforeEach(async () => {
    chat = await ChatPage.open(browser, stack.url, stack.key)
    answer = await chat.ask(PROMPT)
  })
  afterEach(async () => {
    await fetch(`${stack.url}/admin/v1/feedback?owner=key:test`, { method: 'DELETE', headers: ADMIN })
    await chat.close()
  })

  const ADMIN = { authorization: `Bearer ${ADMIN_KEY}` }
  const exported = async (): Promise<FeedbackRecord[]> => {
    const text = await (await fetch(`${stack.url}/admin/v1/feedback`, { headers: ADMIN })).text()
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  }
  const pressed = (name: string) => chat.button(name).getAttribute('aria-pressed')
  const shot = async (name: string) => {
    if (SHOTS) await chat.page.screenshot({ path: `${SHOTS}/${name}.png` })
  }

  it('a thumb is sent at once, without any text; the same again takes it back', async () => {
    await chat.button('Good answer').click()
    await expect.poll(() => pressed('Good answer')).toBe('true')
    const [vote] = await exported()
    expect(vote).toMatchObject({ owner: 'key:test', vote: 'up', model: 'demo', parallel: true })
    expect(JSON.stringify(vote)).not.toContain('tar')
    await shot('vote')
    await chat.page.reload()
    await chat.button('Good answer').waitFor()
    expect(await pressed('Good answer')).toBe('true')
    await chat.button('Good answer').click()
    await expect.poll(() => pressed('Good answer')).toBe('false')
    expect(await exported()).toEqual([])
  })

  it('a report has a reason, and the conversation only where the user has agreed', async () => {
    await chat.button('Report the answer').click()
    await chat.page.getByLabel('What is wrong with this answer?').fill('There is no such flag.')
    expect(await exported()).toEqual([])
    await chat.button('Report').click()
    await expect.poll(() => pressed('Report the answer')).toBe('true')
    const [report] = await exported()
    expect(report).toMatchObject({ vote: 'flag', reason: 'There is no such flag.' })
    expect(report?.messages).toBeUndefined()
    // Another vote on the same answer takes its place.
    await chat.button('Bad answer').click()
    await chat.page.getByLabel('What was wrong with it?').fill('Too long')
    await chat.page.getByLabel('Send the conversation').check()
    await shot('reason')
    await chat.button('Send feedback').click()
    await chat.page.locator('.reason').waitFor({ state: 'detached' })
    const [other, ...rest] = await exported()
    expect(rest).toEqual([])
    expect(other).toMatchObject({ vote: 'down', reason: 'Too long' })
    expect(other?.messages?.[0]).toEqual({ role: 'user', content: PROMPT })
    expect(other?.messages?.[1]?.role).toBe('assistant')
    expect(answer).toContain(other?.messages?.[1]?.content.trim().slice(0, 20))
  })

  it('says why a vote could not be sent, and does not pretend that it was', async () => {
    await chat.page.route('**/v1/feedback', (route) => route.abort())
    await chat.button('Bad answer').click()
    await chat.page.getByRole('alert').getByText('The server cannot be reached').waitFor()
    expect(await pressed('Bad answer')).toBe('false')
  })
})
