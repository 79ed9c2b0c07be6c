/** What edge/build.mjs leaves in dist/web, bundled into the worker as text. */
declare module '*.html' {
  const text: string
  export default text
}
declare module '*.txt' {
  const text: string
  export default text
}
