import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasChromium, launchChromium } from '../../support/chromium.ts'
import { freeKey, type ScriptedEdge, startScriptedEdge } from '../scripted-edge.ts'
import { ChatPage } from './chat-page.ts'

const { key, record } = freeKey()

/** An answer of the fake node, as a prompt. */
function script(apar?: object): string {
  const counts = { prompt_tokens: 5, cached_prompt_tokens: 0, completion_tokens: 7, total_tokens: 12 }
  return JSON.stringify([
    { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
    { type: 'delta', branch: 0, text: 'Hello' },
    { type: 'branch_end', branch: 0, reason: 'stop' },
    { type: 'done', reason: 'stop', usage: { ...counts, branches: [], apar } },
  ])
}

describe.skipIf(!hasChromium)('the figures of an answer on the chat page', () => {
  const state = mkdtempSync(join(tmpdir(), 'apar-page-'))
  let edge: ScriptedEdge
  let browser: Browser
  let chat: ChatPage

  beforeAll(async () => {
    edge = await startScriptedEdge(state, [record])
    browser = await launchChromium()
    chat = await ChatPage.open(browser, edge.url, key)
  })

  afterAll(async () => {
    await browser?.close()
    await edge?.close()
    rmSync(state, { recursive: true })
  })

  const figures = () => chat.lastAnswer.locator('.figures > span').allTextContents()

  it('say how many drafted tokens were accepted', async () => {
    await chat.ask(script({ speculation: { drafted: 8, accepted: 6 } }))
    expect(await figures()).toContain('drafts accepted 6 of 8 (75 %)')
  })

  it('do not speak of drafts where there were none', async () => {
    await chat.button('New chat').click()
    await chat.ask(script())
    expect((await figures()).join()).not.toMatch(/drafts/i)
    expect(await figures()).toContain('1 branch')
  })
})
