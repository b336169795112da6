;; trick: a name that clears the terminal
;; end: refused name
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"\\u001b[2J\"}"))
