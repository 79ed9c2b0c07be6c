/** The longest part of a title that becomes part of a file's name. */
const MAX_NAME_CHARS = 80

export function download(name: string, text: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
  link.download = name
  link.click()
  URL.revokeObjectURL(link.href)
}

export function fileName(title: string): string {
  const name = title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '')
  return name.slice(0, MAX_NAME_CHARS) || 'conversation'
}
