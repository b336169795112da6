;; trick: bytes that are no module
;; end: refused not a WebAssembly
(module binary "\de\ad\be\ef\de\ad\be\ef")
