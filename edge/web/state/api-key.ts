import { signal } from '@preact/signals'

const STORED = 'apar-key'

/** The key of this tab; '' when there is none. */
export const apiKey = signal(loadKey())

/** A key in the URL (`#key=…`) replaces that of the tab, and is removed so that no bookmark contains it. */
function loadKey(): string {
  const fromAddress = new URLSearchParams(location.hash.slice(1)).get('key')
  if (fromAddress) {
    sessionStorage.setItem(STORED, fromAddress)
    history.replaceState(null, '', location.pathname)
  }
  return sessionStorage.getItem(STORED) ?? ''
}

export function saveKey(key: string): void {
  sessionStorage.setItem(STORED, key)
  apiKey.value = key
}
