import type { Settings } from './conversation.ts'

const STORED = 'apar-settings'
const DEFAULTS: Settings = { parallel: true }

/** The settings of the last conversation, for the next one. */
export function lastSettings(): Settings {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORED) ?? '{}')
    return typeof stored === 'object' ? { ...DEFAULTS, ...stored } : DEFAULTS
  } catch {
    return DEFAULTS
  }
}

export function rememberSettings(settings: Settings): void {
  localStorage.setItem(STORED, JSON.stringify(settings))
}
