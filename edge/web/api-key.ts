const STORED = 'apar-key'

/** The key of this tab. A key in the URL (`#key=…`) replaces it, and is removed so that no bookmark contains it. */
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
