import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'
import { requires } from './requires.ts'

const CHROMIUM = '/usr/bin/chromium'

export const hasChromium = requires('chromium', () => existsSync(CHROMIUM))

export function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
}
