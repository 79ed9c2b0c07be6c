import type { Browser, Locator, Page, WebSocketRoute } from 'playwright-core'

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
    await this.page.locator(`article.answer[data-state="${state}"]`).last().waitFor()
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

  close(): Promise<void> {
    return this.page.context().close()
  }
}

/** The streams' sockets of a page, through a link that the test slows down and cuts. */
export class Link {
  /** Frames from the server that are let through from now on. */
  #open: number
  #held: (() => void)[] = []
  #sockets: WebSocketRoute[] = []

  private constructor(open: number) {
    this.#open = open
  }

  /** Lets `frames` frames through, and holds the others until {@link release}. Call before the page opens a stream. */
  static async of(page: Page, frames: number): Promise<Link> {
    const link = new Link(frames)
    await page.routeWebSocket(/\/v1\/stream/, (socket) => {
      link.#sockets.push(socket)
      const server = socket.connectToServer()
      server.onMessage((message) => link.#pass(() => socket.send(message)))
    })
    return link
  }

  release(): void {
    this.#open = Number.POSITIVE_INFINITY
    for (const pass of this.#held.splice(0)) pass()
  }

  /** Drops what is held and closes the newest socket as if its connection were lost; later ones are open. */
  async cut(): Promise<void> {
    this.#held = []
    this.#open = Number.POSITIVE_INFINITY
    await this.#sockets.at(-1)?.close({ code: 4000 })
  }

  #pass(send: () => void): void {
    if (this.#open > 0) send()
    else this.#held.push(send)
    this.#open--
  }
}
