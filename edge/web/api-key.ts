const STORED = 'apar-key'

/** The tab's key. A key in the address (`#key=…`) wins and is taken out of it, so that no bookmark holds it. */
export function loadKey(): string | undefined {
  const fromAddress = new URLSearchParams(location.hash.slice(1)).get('key')
  if (fromAddress) {
    saveKey(fromAddress)
    history.replaceState(null, '', location.pathname)
  }
  return sessionStorage.getItem(STORED) ?? undefined
}

export function saveKey(key: string): void {
  sessionStorage.setItem(STORED, key)
}
