import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { treePage } from '../../../cli/token-tree/html.ts'
import type { Token, TokenTree } from '../../../shared/token-tree.ts'
import { hasChromium, launchChromium } from '../../support/chromium.ts'

const written = (...texts: string[]): Token[] => texts.map((text, id) => ({ text, id, given: false }))
const given = (...texts: string[]): Token[] => written(...texts).map((token) => ({ ...token, given: true }))
const mark = (special: string, isGiven = false): Token => ({ text: '', special, id: 9, given: isGiven })
const FORK = mark('[Fork]')
const CHILD = mark('[Child]', true)
const EOS = mark('</s>')

/** Every text occurs once, so that texts name tokens. */
const tree: TokenTree = {
  title: 'fruit',
  facts: [['kind', 'list']],
  words: { written: 'learned', given: 'masked' },
  segments: [
    {
      parent: undefined,
      branch: 0,
      tokens: [...given('Which', ' fruit?'), ...written('One', ':'), mark('[Fork 1]')],
    },
    { parent: 0, branch: 1, tokens: [mark('[Child 1]', true), ...written(' red', ' and'), mark('[Fork 2]')] },
    { parent: 1, branch: 2, tokens: [mark('[Child 2]', true), ...written(' deep', ' down'), mark('</s 2>')] },
    { parent: 1, branch: 1, tokens: [...written(' round'), mark('</s 1>')] },
    { parent: 0, branch: 0, tokens: [...written('\n', 'Two'), mark('[Fork 3]')] },
    { parent: 4, branch: 3, tokens: [mark('[Child 3]', true), ...written(' soft'), mark('</s 3>')] },
    { parent: 4, branch: 0, tokens: [...written(' end'), mark('</s 0>')] },
  ],
}

describe.skipIf(!hasChromium)('the page of a tree', () => {
  let browser: Browser
  let page: Page
  let complaints: string[]

  beforeAll(async () => {
    browser = await launchChromium()
  })
  afterAll(() => browser?.close())

  async function open(shown: TokenTree, viewport = { width: 1000, height: 800 }): Promise<void> {
    const file = join(mkdtempSync(join(tmpdir(), 'apar-tree-')), 'tree.html')
    writeFileSync(file, treePage(shown))
    complaints = []
    page = await browser.newPage({ viewport })
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (message) => complaints.push(message.text()))
    page.on('dialog', (dialog) => complaints.push(dialog.message()))
    page.on('request', (request) => {
      if (request.url() !== pathToFileURL(file).href) complaints.push(request.url())
    })
    await page.goto(pathToFileURL(file).href)
  }

  beforeEach(() => open(tree))
  afterEach(async () => {
    expect(complaints).toEqual([])
    await page.close()
  })

  const texts = (selector: string) => page.locator(selector).allTextContents()
  const token = (text: string) =>
    page.locator('#tree .token', { hasText: new RegExp(`^${text.replace(/[[\]]/g, '\\$&')}$`) })
  const PROMPT = ['Which', ' fruit?']

  it('marks exactly the path of a token in a branch', async () => {
    await token(' and').click()
    expect(await texts('.attended')).toEqual([...PROMPT, 'One', ':', '[Fork 1]', '[Child 1]', ' red', ' and'])
    expect(await page.locator('#selected').textContent()).toBe(
      '" and" position 7 id 1 branch 1 depth 2 learned attends to 8 of 23 tokens',
    )
  })

  it('marks the path through two forks, and forgets the path before', async () => {
    await token(' round').click()
    await token(' down').click()
    const around = [...PROMPT, 'One', ':', '[Fork 1]', '[Child 1]', ' red', ' and', '[Fork 2]']
    expect(await texts('.attended')).toEqual([...around, '[Child 2]', ' deep', ' down'])
    expect(await texts('[aria-selected=true]')).toEqual([' down'])
  })

  it('marks nothing of the branches for a token of the root', async () => {
    await token(' end').click()
    expect(await texts('.attended')).toEqual([
      ...PROMPT,
      'One',
      ':',
      '[Fork 1]',
      '↵\n',
      'Two',
      '[Fork 3]',
      ' end',
    ])
    await token('[Child 3]').click()
    expect(await page.locator('#selected').textContent()).toContain(
      '[Child 3] position 8 id 9 branch 3 depth 2 masked',
    )
  })

  it('shows branches where they fork', async () => {
    expect((await texts('#tree .token')).join('')).toBe(
      'Which fruit?One:[Fork 1][Child 1] red and[Fork 2][Child 2] deep down</s 2> round</s 1>↵\nTwo[Fork 3][Child 3] soft</s 3> end</s 0>',
    )
    expect(await page.locator('.branch .branch .branch').count()).toBe(1)
    const forks = await page.locator('[data-forks]').all()
    expect(await Promise.all(forks.map((fork) => fork.getAttribute('data-forks')))).toEqual([
      '→1',
      '→2',
      '→3',
    ])
  })

  it('shows steps in decode order, and keeps what is marked', async () => {
    await token(' soft').click()
    await page.getByLabel('decode order').check()
    expect(await texts('.phase > .name')).toEqual([
      'prompt · computed at once',
      'steps 1–3 · 1 branch',
      'steps 4–6 · 2 branches at once',
      'step 7 · 3 branches at once',
      'step 8 · 4 branches at once',
      'step 9 · 3 branches at once',
      'steps 10–11 · 1 branch',
    ])
    expect(await texts('.phase:nth-child(4) .line')).toEqual(['0 end', '1[Fork 2]', '3[Child 3]'])
    expect(await page.locator('#tree .token').count()).toBe(23)
    expect((await texts('.attended')).at(-1)).toBe(' soft')
    await page.getByLabel('document order').check()
    expect((await texts('.attended')).at(-1)).toBe(' soft')
  })

  it('can be used with the keyboard alone', async () => {
    await page.locator('input[value=document]').focus()
    await page.keyboard.press('Tab')
    const focused = () => page.locator(':focus').textContent()
    expect(await focused()).toBe('Which')
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'ArrowRight']) await page.keyboard.press(key)
    expect(await focused()).toBe(' red')
    await page.keyboard.press('Enter')
    expect((await texts('.attended')).at(-1)).toBe(' red')
    await page.keyboard.press('ArrowUp')
    expect(await focused()).toBe('Which')
    await page.keyboard.press('End')
    await page.keyboard.press(' ')
    expect((await texts('.attended')).at(-1)).toBe('</s 0>')
    await page.keyboard.press('Escape')
    expect(await texts('.attended')).toEqual([])
    // The tokens are one stop of the Tab key.
    expect(await page.locator('#tree [tabindex="0"]').count()).toBe(1)
  })

  it('names what has no text, and announces what is selected', async () => {
    expect(await token('↵\n').getAttribute('aria-label')).toBe('"\\n"')
    expect(await page.locator('#selected').getAttribute('aria-live')).toBe('polite')
    expect(await page.getByRole('treeitem', { name: 'branch 2, 4 tokens, depth 3' }).count()).toBe(1)
  })

  it('shows texts as they are, whatever they contain', async () => {
    const hostile = [
      '</script><script>alert(1)</script>',
      '<img src=x onerror=alert(2)>',
      '<!--',
      '&lt;b>',
      '\u2028"\\',
    ]
    await page.close()
    await open({
      ...tree,
      title: hostile.join(''),
      facts: hostile.map((text) => [text, text] as const),
      segments: [{ parent: undefined, branch: 0, tokens: [...written(...hostile), mark(hostile[0] ?? '')] }],
    })
    expect(await texts('#tree .token')).toEqual([...hostile.slice(0, 4), '⟨U+2028⟩"\\', hostile[0]])
    expect(await page.title()).toBe(
      '</script><script>alert(1)</script><img src=x onerror=alert(2)><!--&lt;b>⟨U+2028⟩"\\',
    )
    expect(await page.locator('#tree img').count()).toBe(0)
  })

  it('shows thousands of tokens, and fits a phone', async () => {
    const segments: { parent: number | undefined; branch: number; tokens: Token[] }[] = []
    let main = segments.push({ parent: undefined, branch: 0, tokens: [...given('Q'), FORK] }) - 1
    for (let branch = 1; branch <= 100; branch++) {
      const words = Array.from({ length: 47 }, (_, at) =>
        at === 40 ? 'https://example.com/'.repeat(5) : ` word${at}`,
      )
      segments.push({ parent: main, branch, tokens: [CHILD, ...written(...words), EOS] })
      main = segments.push({ parent: main, branch: 0, tokens: [...written('\n', 'Next'), FORK] }) - 1
    }
    segments.push({ parent: main, branch: 0, tokens: [EOS] })
    // The last fork begins no branch: it was refused.
    await page.close()
    await open({ ...tree, segments }, { width: 360, height: 740 })
    for (const order of ['decode', 'document']) {
      await page.getByLabel(`${order} order`).check()
      expect(await page.locator('#tree .token').count()).toBe(2 + 100 * 52 + 1)
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360)
    }
    await page.locator('#tree .token').last().click()
    expect(await page.locator('.attended').count()).toBe(2 + 100 * 3 + 1)
  })
})
