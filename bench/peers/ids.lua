-- wrk -s ids.lua URL -- TOKENS PATH IDS: the tokens of the file in turn, and the ids from 1 to IDS in turn.
local tokens, sent, path, ids = {}, 0, "", 1

function init(args)
  for token in io.lines(args[1]) do
    tokens[#tokens + 1] = "Bearer " .. token
  end
  path, ids = args[2], tonumber(args[3])
end

function request()
  sent = sent + 1
  return wrk.format("GET", path .. (sent % ids + 1), {["Authorization"] = tokens[sent % #tokens + 1]})
end
