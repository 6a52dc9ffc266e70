// The command line, the same as that of the servers in Rust.
'use strict'

const HELP = `Options
  --listen ADDR    where to listen (default: 127.0.0.1:9001)
  --mode MODE      echo, or broadcast: a message goes to every connection (default: echo)
  --threads N      1 is all there is
  --deflate        permessage-deflate at level 1 (ws only)
  --help           this text
`

// As the largest default among the servers that are compared.
exports.MESSAGE_BYTES_MAX = 64 * 1024 * 1024

exports.parse = function (name, typed) {
  const result = { host: '127.0.0.1', port: 9001, mode: 'echo', deflate: false }
  const words = [...typed]
  while (words.length > 0) {
    const flag = words.shift()
    if (flag === '--help' || flag === '-h') {
      process.stdout.write(`${name}: echo and broadcast server\n\n${HELP}`)
      process.exit(0)
    }
    if (flag === '--deflate' && name === 'ws') {
      result.deflate = true
      continue
    }
    if (!['--listen', '--mode', '--threads'].includes(flag)) {
      refuse(name, `\`${flag}\` is not an option; --help lists them`)
    }
    if (words.length === 0) refuse(name, `${flag} needs a value`)
    set(name, result, flag, words.shift())
  }
  return result
}

function set(name, result, flag, value) {
  if (flag === '--listen') {
    const match = /^\[?([0-9a-fA-F.:]+?)\]?:(\d{1,5})$/.exec(value)
    if (!match) refuse(name, `--listen takes an address such as 127.0.0.1:9001, not \`${value}\``)
    result.host = match[1]
    result.port = Number(match[2])
  } else if (flag === '--mode') {
    if (!['echo', 'broadcast'].includes(value)) {
      refuse(name, `--mode takes echo or broadcast, not \`${value}\``)
    }
    result.mode = value
  } else if (value !== '1') {
    refuse(name, '--threads takes 1 only: JavaScript runs on one thread of a process')
  }
}

function refuse(name, reason) {
  process.stderr.write(`${name}: error: ${reason}\n`)
  process.exit(2)
}
