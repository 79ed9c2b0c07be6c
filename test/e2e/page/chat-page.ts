import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Browser, Locator, Page } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** The chat page in a browser, as a user sees it: elements are found by their roles and names where they have one. */
export class ChatPage {
  readonly page: Page
  /** Errors and warnings of the page, violations of its content security policy included. */
  readonly complaints: string[] = []

  private constructor(page: Page) {
    this.page = page
    page.on('pageerror', (error) => this.complaints.push(error.message))
    page.on('console', (message) => this.complaints.push(message.text()))
  }

  /** Opens the page with a key. `key` undefined: the page asks for one. */
  static async open(browser: Browser, url: string, key?: string, options: object = {}): Promise<ChatPage> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
    const chat = new ChatPage(await context.newPage())
    await chat.page.goto(key === undefined ? url : `${url}/#key=${key}`)
    if (key !== undefined) await chat.page.locator('#model:enabled').waitFor()
    return chat
  }

  get answers(): Locator {
    return this.page.locator('article.answer')
  }

  get lastAnswer(): Locator {
    return this.answers.last()
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true })
  }

  async send(prompt: string): Promise<void> {
    await this.page.locator('#prompt').fill(prompt)
    await this.page.keyboard.press('Enter')
  }

  /** Waits for the last answer to be in this state. */
  async state(state: 'running' | 'complete' | 'stopped' | 'failed'): Promise<void> {
    await this.page.locator(`article.answer[data-state="${state}"]:last-of-type`).waitFor()
  }

  async ask(prompt: string): Promise<string> {
    const before = await this.answers.count()
    await this.send(prompt)
    await this.answers.nth(before).waitFor()
    await this.state('complete')
    return await this.text()
  }

  /** The text of the last answer. */
  async text(): Promise<string> {
    return ((await this.lastAnswer.locator('.markdown').textContent()) ?? '').trim()
  }

  /** What axe finds wrong, as `rule: element`. */
  async findings(): Promise<string[]> {
    await this.page.evaluate(AXE)
    return await this.page.evaluate<string[]>(`axe.run().then(({ violations }) =>
      violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + html + failureSummary)))`)
  }

  /** How far the page is wider than its window, in pixels. */
  overflow(): Promise<number> {
    return this.page.evaluate<number>(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    )
  }

  close(): Promise<void> {
    return this.page.context().close()
  }
}
