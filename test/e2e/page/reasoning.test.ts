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
  ...{ prompt_tokens: 5, cached_prompt_tokens: 0, completion_tokens: 30, total_tokens: 35 },
  branches: [],
}
const FIRST = 'The user asks for a sum. Two ways lead there:\n\n1. counting'
/** The fake node thinks in two branches until one of them is stopped, then answers. */
const SCRIPT = JSON.stringify([
  { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
  { type: 'reasoning', branch: 0, text: FIRST },
  { type: 'fork', branch: 1, parent: 0, at: 0, reasoning_at: FIRST.length },
  { type: 'reasoning', branch: 1, text: ' on two hands' },
  { type: 'reasoning', branch: 0, text: '\n2. adding' },
  { await: 'cancel_branch' },
  { type: 'branch_end', branch: 1, reason: 'abort' },
  { type: 'delta', branch: 0, text: 'It is **four**.' },
  { type: 'branch_end', branch: 0, reason: 'stop' },
  { type: 'done', reason: 'stop', usage },
])

describe.skipIf(!hasChromium)('a model that thinks, on the chat page', () => {
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

  const reasoning = () => chat.lastAnswer.locator('.reasoning')
  const isOpen = () => reasoning().evaluate((details) => 'open' in details && details.open)

  it('is seen thinking while it has no answer yet', async () => {
    await chat.send(SCRIPT)
    await chat.button('Stop branch 1').waitFor()
    await reasoning().getByText('2. adding').waitFor()
    expect(await isOpen()).toBe(true)
    expect(await reasoning().locator('summary').textContent()).toBe('Thinking …')
    expect(await reasoning().locator('p').textContent()).toBe(`${FIRST} on two hands\n2. adding`)
    expect(await chat.lastAnswer.locator('.waiting').count()).toBe(0)
    expect(await chat.findings()).toEqual([])
    if (process.env.APAR_SCREENSHOTS)
      await chat.page.screenshot({ path: `${process.env.APAR_SCREENSHOTS}/thinking.png` })
  })

  it('folds its thoughts up when the answer begins, and says how long they took', async () => {
    await chat.button('Stop branch 1').click()
    await chat.state('complete')
    expect(await chat.text()).toBe('It is four.')
    expect(await isOpen()).toBe(false)
    expect(await reasoning().locator('summary').textContent()).toMatch(/^Thought for [\d.]+ m?s$/)
    await reasoning().locator('summary').press('Enter')
    expect(await isOpen()).toBe(true)
    if (process.env.APAR_SCREENSHOTS)
      await chat.page.screenshot({ path: `${process.env.APAR_SCREENSHOTS}/thought.png` })
  })

  it('has its thoughts again after a reload', async () => {
    await chat.page.reload()
    await chat.state('complete')
    expect(await isOpen()).toBe(false)
    expect(await reasoning().locator('p').textContent()).toContain('1. counting on two hands')
    expect(chat.complaints).toEqual([])
  })
})
