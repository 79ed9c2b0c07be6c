import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { freeKey, type ScriptedEdge, startScriptedEdge } from '../scripted-edge.ts'
import { ChatPage } from './chat-page.ts'

const { key, record } = freeKey()
const usage = {
  prompt_tokens: 5,
  cached_prompt_tokens: 0,
  completion_tokens: 7,
  total_tokens: 12,
  branches: [],
}

/** A prompt that the fake node answers with this text. */
function saying(text: string): string {
  return JSON.stringify([
    { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
    { type: 'delta', branch: 0, text },
    { type: 'branch_end', branch: 0, reason: 'stop' },
    { type: 'done', reason: 'stop', usage },
  ])
}

describe.skipIf(!hasChromium)('the Markdown of a model', () => {
  const state = mkdtempSync(join(tmpdir(), 'apar-page-'))
  let edge: ScriptedEdge
  let browser: Browser
  let chat: ChatPage
  const asked: string[] = []

  beforeAll(async () => {
    edge = await startScriptedEdge(state, [record])
    browser = await launchChromium()
    chat = await ChatPage.open(browser, edge.url, key)
    chat.page.on('request', (request) => asked.push(request.url()))
  })

  afterAll(async () => {
    await browser?.close()
    await edge?.close()
    rmSync(state, { recursive: true })
  })

  const markdown = (selector: string) => chat.lastAnswer.locator(`.markdown ${selector}`)

  it('becomes lists, tables and code that can be copied', async () => {
    await chat.ask(
      saying('# Title\n\n- a\n  - b\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n```sh\ntar cf "$a" <b>\n```\n'),
    )
    expect(await markdown('ul ul li').allTextContents()).toEqual(['b'])
    expect(await markdown('td').allTextContents()).toEqual(['1', '2'])
    expect(await markdown('pre code').textContent()).toBe('tar cf "$a" <b>\n')
    await chat.page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
    await chat.button('Copy this code').click()
    await markdown('.copy-code[data-copied="true"]').waitFor()
    expect(await chat.page.evaluate<string>('navigator.clipboard.readText()')).toBe('tar cf "$a" <b>\n')
  })

  it('shows HTML as text, and runs and loads nothing of it', async () => {
    const html = '<img src=x onerror="window.hit=1"><script>window.hit=1</script><b onclick="x">bold</b>'
    const text = await chat.ask(
      saying(
        `${html}\n\n[a](javascript:window.hit=1) [b](https://b.example/) ![p](https://c.example/p.png?secret "x")\n\n<style>*{}</style>`,
      ),
    )
    expect(text).toContain(html)
    expect(text).toContain('<style>*{}</style>')
    expect(await markdown('img, script, style, b, [onclick], [style]').count()).toBe(0)
    const links = await chat.page.evaluate<string[]>(
      "[...document.querySelectorAll('article.answer:last-of-type .markdown a')].map((a) => [a.getAttribute('href'), a.target, a.rel].join(' '))",
    )
    const safe = '_blank noopener noreferrer nofollow'
    expect(links).toEqual([
      ` ${safe}`,
      `https://b.example/ ${safe}`,
      `https://c.example/p.png?secret ${safe}`,
    ])
    expect(await chat.page.evaluate('window.hit')).toBeUndefined()
    expect(asked.filter((url) => !url.startsWith(edge.url))).toEqual([])
    expect(chat.complaints).toEqual([])
  })

  it('has one way into the page: the browser refuses every other', async () => {
    const refused = await chat.page.evaluate<string>(
      "(() => { try { document.createElement('p').innerHTML = '<b>'; return 'done' } catch (error) { return error.name } })()",
    )
    expect(refused).toBe('TypeError')
  })
})
