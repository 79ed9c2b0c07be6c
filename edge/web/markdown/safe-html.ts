import DOMPurify from 'dompurify'
import { Marked, type Token, type TokensList } from 'marked'

/** Elements that Markdown makes. Anything else in a model's text is shown as the text that it is. */
const TAGS = [
  ...[
    'p',
    'br',
    'hr',
    'h1',
    'h2',
    'h3',
    'h4',
    'h5',
    'h6',
    'blockquote',
    'pre',
    'code',
    'em',
    'strong',
    'del',
  ],
  ...['ul', 'ol', 'li', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'a'],
]
const ATTRIBUTES = ['href', 'title', 'start', 'align', 'class']
/** The prompt is a page of its own: what a model links to is opened beside it, and is told nothing. */
const LINK = { target: '_blank', rel: 'noopener noreferrer nofollow' }

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    // No picture is loaded: its address could carry the conversation away.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
})

DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') for (const [name, value] of Object.entries(LINK)) node.setAttribute(name, value)
})

/** The blocks of a text, in order. Each has its source as `raw`. */
export function blocksOf(markdown: string): TokensList {
  return marked.lexer(markdown)
}

/** The nodes of one block. What the parser made is sanitized before it becomes part of the page. */
export function renderBlock(block: Token): DocumentFragment {
  return DOMPurify.sanitize(marked.parser([block]), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  })
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
