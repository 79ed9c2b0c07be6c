import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { type Stack, startStack } from '../stack.ts'
import { ChatPage } from './chat-page.ts'
import { Link } from './link.ts'

const PROMPT = 'How do I use tar?'

describe.skipIf(!hasChromium)('an answer on the page while it grows', () => {
  let stack: Stack
  let browser: Browser
  let chat: ChatPage
  let link: Link
  let whole: string

  beforeAll(async () => {
    // Without drafts a step has one token per branch, and the answer many frames.
    stack = await startStack({ speculation: 'off' })
    browser = await launchChromium()
    const first = await ChatPage.open(browser, stack.url, stack.key)
    whole = await first.ask(PROMPT)
    await first.close()
  })

  afterAll(async () => {
    await browser?.close()
    await stack?.close()
  })

  beforeEach(async () => {
    link = await Link.to(stack.url)
    chat = await ChatPage.open(browser, link.url, stack.key)
    await chat.send(PROMPT)
    await chat.lastAnswer.locator('.branches li').nth(1).waitFor()
  })

  afterEach(async () => {
    expect(chat.complaints).toEqual([])
    await chat.close()
    link.close()
  })

  it('shows forks and their text before it ends', async () => {
    expect(await chat.lastAnswer.getAttribute('data-state')).toBe('running')
    expect(await chat.lastAnswer.locator('[data-growing="true"]').count()).toBeGreaterThan(1)
    expect(await chat.page.evaluate<number>("CSS.highlights.get('growing').size")).toBeGreaterThan(1)
    link.release()
    await chat.state('complete')
    expect(await chat.text()).toBe(whole)
    expect(await chat.page.evaluate<number>("CSS.highlights.get('growing').size")).toBe(0)
  })

  it('stops at once, and tells the server', async () => {
    const sent = chat.text()
    await chat.page.keyboard.press('Escape')
    await chat.state('stopped')
    const stopped = await chat.text()
    expect(stopped.length).toBeGreaterThanOrEqual((await sent).length)
    link.release()
    // The usage comes with the end of the stream: it counts what the server has given until it knew.
    await chat.lastAnswer.locator('.figures', { hasText: /^\d+ tokens/ }).waitFor()
    expect(await chat.text()).toBe(stopped)
    expect(stopped.length).toBeLessThan(whole.length)
    await chat.page.locator('#send').waitFor()
    await chat.page.reload()
    await chat.state('stopped')
    expect(await chat.text()).toBe(stopped)
  })

  it('stops one branch, and the others go on', async () => {
    // The youngest: an older one may end before the click.
    const stop = chat.page.getByRole('button', { name: /^Stop branch \d+$/ }).last()
    const name = (await stop.getAttribute('aria-label')) ?? ''
    const branch = Number(/\d+/.exec(name)?.[0])
    await chat.page.getByRole('button', { name, exact: true }).click()
    const row = chat.lastAnswer.locator('.branches .row', {
      hasText: `Branch ${branch}, forked from the root`,
    })
    await expect.poll(() => row.getAttribute('title'), { timeout: 30_000 }).toMatch(/stopped$/)
    link.release()
    await chat.state('complete')
    const items = (text: string) => text.split('\n').filter((line) => line.trim() !== '')
    // The branches of this answer are the details of its items, in order, behind a heading.
    const [now, then] = [items(await chat.text()), items(whole)]
    expect(now.length).toBe(then.length)
    expect(now[branch]?.length).toBeLessThan(then[branch]?.length ?? 0)
    expect(now.toSpliced(branch, 1)).toEqual(then.toSpliced(branch, 1))
  })

  it('goes on after a reload in its middle', async () => {
    await chat.page.reload()
    await chat.state('complete')
    expect(await chat.text()).toBe(whole)
    expect(await chat.answers.count()).toBe(1)
  })

  it('goes on after its connection was lost', async () => {
    link.cut()
    await chat.state('complete')
    expect(await chat.text()).toBe(whole)
  })

  it('is written by one tab; another one shows it, and has its end', async () => {
    const other = await chat.page.context().newPage()
    await other.goto(chat.page.url())
    await other.locator('article.answer[data-state="running"]').waitFor()
    link.release()
    await chat.state('complete')
    await other.locator('article.answer[data-state="complete"]').waitFor()
    expect(((await other.locator('article.answer .markdown').textContent()) ?? '').trim()).toBe(whole)
    expect(await chat.text()).toBe(whole)
  })
})
